"""Billing by request: a run of everything that is due, and what is not yet billed, as tables.

`tallyman bill` and `tallyman preview` ask it where a server holds the stores.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Time
from tallyman.billing.books import Books
from tallyman.billing.job import count_invoices
from tallyman.billing.preview import preview
from tallyman.billing.report import PreviewAnswer, RunAnswer, preview_answer, run_answer
from tallyman.billing.run import Order, run
from tallyman.errors import InvalidInput, InvalidParameter, named_by

LINES: Final = "application/x-ndjson"


class BillingRunRequest(BaseModel):
    """When it is, whom it is about (all customers, if nobody), and whether it only shows.

    A time to come makes invoices of what is not over yet: it needs `dry_run` or `ahead`.
    """

    model_config = ConfigDict(extra="forbid")

    at: Time | None = None
    customers: list[str] = Field(default=[], max_length=10_000)
    dry_run: StrictBool = False
    ahead: StrictBool = False


class PreviewTables(msgspec.Struct):
    """What is not yet billed, a table for each currency."""

    tables: list[PreviewAnswer]


class RunLine(msgspec.Struct, omit_defaults=True):
    """How far a run is, in customers; in its last line, what it did."""

    done: int
    all: int
    outcome: RunAnswer | None = None


async def bill(request: web.Request) -> web.StreamResponse:
    """A line for each step, so that it can be seen how far it is."""
    asked = await read_body(request, BillingRunRequest)
    books, caller = request.app[BOOKS], request[CALLER]
    now = request[NOW]
    check_time(asked.at, now, ahead=asked.ahead or asked.dry_run)
    ids = await customer_ids(books, caller.namespace, asked.customers)
    response = web.StreamResponse(headers={"Content-Type": LINES})
    lines: asyncio.Queue[RunLine | None] = asyncio.Queue()

    def report(done: int, all_: int) -> None:
        lines.put_nowait(RunLine(done, all_))

    order = Order(asked.at or now, ids, dry_run=asked.dry_run, by=caller.actor, report=report)
    work = asyncio.create_task(_run(books, caller.namespace, order, lines))
    try:
        first = await lines.get()
        if first is None:
            await work  # it failed before it did anything: that is the answer
        await response.prepare(request)
        line = first
        while line is not None:
            await response.write(msgspec.json.encode(line) + b"\n")
            line = await lines.get()
        await work
    finally:
        work.cancel()
    await response.write_eof()
    return response


async def _run(
    books: Books, namespace: str, order: Order, lines: "asyncio.Queue[RunLine | None]"
) -> None:
    try:
        outcome = await run(books, namespace, order)
        await count_invoices(books)
        lines.put_nowait(RunLine(1, 1, run_answer(outcome)))
    finally:
        lines.put_nowait(None)


async def shown(request: web.Request) -> web.Response:
    """What the customer, by id or key, has not been billed yet; a table for each currency."""
    books, caller = request.app[BOOKS], request[CALLER]
    tables = await preview_tables(
        books, caller.namespace, request.match_info["customerId"], request[NOW]
    )
    return web.Response(body=msgspec.json.encode(PreviewTables(tables)), content_type=JSON)


async def preview_tables(
    books: Books, namespace: str, customer: str, now: datetime
) -> list[PreviewAnswer]:
    """The preview of a customer, by id or key; also for the command itself."""
    found = await books.customers.get(namespace, customer)
    return [preview_answer(one) for one in await preview(books, namespace, found.id, now)]


def check_time(at: datetime | None, now: datetime, *, ahead: bool) -> None:
    """Refuse to bill by mistake what is not over yet: what follows may still change it.

    Raises:
        InvalidInput: the time is to come, and nothing says that this is meant.
    """
    if at is not None and at > now and not ahead:
        reason = "is to come: show what it would do with dry_run, or bill ahead of time with ahead"
        raise InvalidInput(f"at {reason}", [InvalidParameter("at", "max", reason)])


async def customer_ids(books: Books, namespace: str, given: Sequence[str]) -> list[str] | None:
    """The ids of customers, by ids or keys; None for all.

    Raises:
        NotFound: there is no such customer.
    """
    if not given:
        return None
    found = []
    for at, one in enumerate(given):
        with named_by(f"customers[{at}]"):
            found.append((await books.customers.get(namespace, one)).id)
    return found


PREVIEW: Final[dict[str, Any]] = {JSON: PreviewTables}
RUN: Final[dict[str, Any]] = {LINES: RunLine}
