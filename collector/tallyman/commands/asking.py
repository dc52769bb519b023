"""How a command reaches billing: by the server that holds the data directory, or by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from urllib.parse import quote

import aiohttp

from tallyman import connections, data_directory
from tallyman.api.auth import LOCAL_ACTOR, LOCAL_NAMESPACE
from tallyman.billing.books import Books
from tallyman.config import Settings
from tallyman.errors import Conflict, InvalidInput, NotFound, TallymanError, Unavailable
from tallyman.store.audit import current_command
from tallyman.stream.replay import connect


def server_of(settings: Settings) -> bool:
    """Whether a server runs on the data directory, and must be asked."""
    return data_directory.is_served(settings.data_dir)


@asynccontextmanager
async def asked(
    settings: Settings, namespace: str, method: str, path: str, body: Any = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The server's answer to a request.

    Raises:
        NotFound: it knows no such customer.
        InvalidInput: what is sent breaks a rule.
        Conflict: it breaks an invariant.
        Unavailable: it does not answer, or with an error.
    """
    headers = {LOCAL_NAMESPACE: quote(namespace), LOCAL_ACTOR: quote(current_command())}
    forever = aiohttp.ClientTimeout(total=None)
    async with connect(data_directory.socket_path(settings.data_dir)) as session:
        try:
            async with session.request(
                method, f"http://tallyman{path}", json=body, headers=headers, timeout=forever
            ) as answer:
                if answer.status not in (200, 201):
                    raise _refused(answer.status, await answer.json(content_type=None))
                yield answer
        except (aiohttp.ClientError, OSError) as err:
            raise Unavailable(f"the server did not answer: {err}") from err


@asynccontextmanager
async def books_here(settings: Settings) -> AsyncIterator[Books]:
    """The stores, opened by this process, which holds the data directory meanwhile."""
    embedded = settings.clickhouse_url is None or settings.database_url is None
    with data_directory.locked(settings.data_dir) if embedded else nullcontext():
        async with connections.open_books(settings) as books:
            yield books


def _refused(status: int, problem: Any) -> TallymanError:
    detail = str(problem.get("detail", f"the server answered {status}"))
    if status == 400:
        return InvalidInput(detail)
    if status == 409:
        return Conflict(detail)
    return NotFound(detail) if status in (404, 410) else Unavailable(detail)
