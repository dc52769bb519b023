"""A customer's usage statement by request; `tallyman statement` asks it where a server runs."""

import re
from datetime import UTC, date
from typing import Any, Final

from aiohttp import web

from tallyman.api.customers import path_text
from tallyman.api.state import BOOKS, CALLER
from tallyman.api.wire import read_time
from tallyman.billing.statement import statement
from tallyman.domain.period import Period, month_of
from tallyman.errors import InvalidInput, InvalidParameter

LINES: Final = "application/x-ndjson"
_MONTH: Final = re.compile(r"(19[7-9][0-9]|20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])", re.ASCII)


class StatementParameters:
    """`month`, such as 2026-11, and `stored_until`, by which the same is written again."""

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        month = {"type": "string", "pattern": f"^{_MONTH.pattern}$", "example": "2026-11"}
        until = {"type": "string", "format": "date-time"}
        about = "As it was known then: the statement of that time again."
        return [
            {"name": "month", "in": "query", "required": True, "schema": month},
            {"name": "stored_until", "in": "query", "schema": until, "description": about},
        ]


async def get(request: web.Request) -> web.StreamResponse:
    """The lines, as they are read."""
    for name in request.query:
        if name not in ("month", "stored_until") or len(request.query.getall(name)) > 1:
            raise _wrong(name, "unknown_property", "is not known, or given twice")
    month = read_month(request.query.get("month", ""))
    until = None
    if "stored_until" in request.query:
        try:
            until = read_time(request.query["stored_until"].replace(" ", "+"))
        except ValueError as err:
            raise _wrong("stored_until", "is_date_time", str(err)) from err
    customer = path_text(request, "customerId")
    lines = statement(request.app[BOOKS], request[CALLER].namespace, customer, month, until)
    response = web.StreamResponse(headers={"Content-Type": LINES})
    async for line in lines:
        if not response.prepared:
            await response.prepare(request)
        await response.write(f"{line}\n".encode())
    await response.write_eof()
    return response


def read_month(text: str) -> Period:
    """A month such as 2026-11, in UTC.

    Raises:
        InvalidInput: it is none.
    """
    if _MONTH.fullmatch(text) is None:
        raise _wrong("month", "matches_regex", "must be a month such as 2026-11")
    return month_of(date.fromisoformat(f"{text}-01"), UTC)


def _wrong(name: str, rule: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{name} {reason}", [InvalidParameter(name, rule, reason, "query")])
