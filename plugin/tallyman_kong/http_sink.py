"""Sends batches of CloudEvents over HTTP, and says what an answer means."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from tallyman_kong import __version__
from tallyman_kong.delivery import LONGEST_REASON, Away, Refused, TooLarge
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Spooled

LONGEST_RETRY_AFTER_SECONDS = 3600.0
REFUSED_STATUSES = (400, 422)
TOO_LARGE_STATUS = 413


class HttpClient:
    """An ingest endpoint. Redirects are not followed: the token is for this endpoint alone."""

    def __init__(self, sink: HttpSink) -> None:
        self._sink = sink
        headers = {
            "content-type": "application/cloudevents-batch+json",
            "user-agent": f"tallyman-kong/{__version__}",
        }
        if sink.api_token is not None:
            headers["authorization"] = f"Bearer {sink.api_token}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                keepalive_timeout=sink.keepalive_ms / 1000, ssl=sink.ssl_verify
            ),
            timeout=aiohttp.ClientTimeout(total=sink.timeout_ms / 1000),
            headers=headers,
        )

    async def send(self, events: Sequence[Spooled]) -> None:
        body = "[" + ",".join(event.body for event in events) + "]"
        try:
            async with self._session.post(
                self._sink.endpoint, data=body.encode(), allow_redirects=False
            ) as response:
                if response.ok and response.status < 300:
                    return
                content = await response.content.read(LONGEST_REASON)
                self._fail(response, content.decode("utf-8", "replace"))
        except TimeoutError as err:
            raise Away("timeout", f"no answer in {self._sink.timeout_ms} ms") from err
        except aiohttp.ClientConnectorError as err:
            raise Away("connection", f"{type(err).__name__}: {err}") from err
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise Away("connection", type(err).__name__) from err

    async def close(self) -> None:
        await self._session.close()

    def _fail(self, response: aiohttp.ClientResponse, content: str) -> None:
        status = response.status
        if status in REFUSED_STATUSES:
            raise Refused(f"status {status}: {content}")
        if status == TOO_LARGE_STATUS:
            raise TooLarge(f"status {status}: {content}")
        raise Away(
            f"http_{status}", f"status {status}", retry_after(response.headers.get("retry-after"))
        )


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait by a Retry-After header, in seconds or as a date; at most an hour."""
    if value is None:
        return None
    if value.strip().isdecimal():
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        seconds = (until - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
