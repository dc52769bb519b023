"""`/api/v1/billing/margin` and `…/losses`: what was earned, what it cost, and which cards make a loss."""

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from tallyman.api.parameters import refuse_any
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.billing.margin import Asked
from tallyman.billing.margin_report import losses_answer, margin_answer, months_until
from tallyman.console.margin_page import CONTENT_SECURITY_POLICY, margin_page
from tallyman.domain.margin import MarginBy
from tallyman.errors import InvalidInput, InvalidParameter

HTML: Final = "text/html"
MONTH: Final = r"^(19[7-9]\d|20\d\d|21[0-8]\d)-(0[1-9]|1[0-2])$"
MOST_MONTHS: Final = 36
_KNOWN: Final = ("by", "month", "months")
_HEADERS: Final = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class MarginParameters:
    """The query of the margin."""

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        by = {"type": "string", "enum": list(MarginBy), "default": MarginBy.CUSTOMER}
        months = {"type": "integer", "minimum": 1, "maximum": MOST_MONTHS, "default": 1}
        return [
            {"name": "by", "in": "query", "schema": by},
            {
                "name": "month",
                "in": "query",
                "description": "Such as 2026-10; the current one, without it.",
                "schema": {"type": "string", "pattern": MONTH},
            },
            {
                "name": "months",
                "in": "query",
                "description": "How many, up to that one.",
                "schema": months,
            },
        ]


async def get(request: web.Request) -> web.Response:
    """The margin as JSON."""
    answer = await margin_answer(request.app[BOOKS], _asked(request))
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


async def page(request: web.Request) -> web.Response:
    """The margin as a page."""
    asked = _asked(request)
    answer = await margin_answer(request.app[BOOKS], asked)
    return web.Response(
        text=margin_page(answer, len(asked.months), asked.now),
        content_type=HTML,
        headers=_HEADERS,
    )


async def get_losses(request: web.Request) -> web.Response:
    """The rate cards that make a loss at today's prices."""
    refuse_any(request)
    answer = await losses_answer(request.app[BOOKS], request[CALLER].namespace, request[NOW])
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


def _asked(request: web.Request) -> Asked:
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in _KNOWN:
            raise _wrong(name, "unknown_property", "is not known")
        if name in given:
            raise _wrong(name, "invalid", "is given twice")
        given[name] = value
    now = request[NOW]
    by = given.get("by", MarginBy.CUSTOMER)
    if by not in list(MarginBy):
        choices = list(MarginBy)
        raise _wrong("by", "enum", f"must be one of {', '.join(choices)}", choices=choices)
    months = given.get("months", "1")
    if not (months.isascii() and months.isdigit() and 1 <= int(months[:9]) <= MOST_MONTHS):
        reason = f"must be a whole number from 1 to {MOST_MONTHS}"
        raise _wrong("months", "is_integer", reason)
    last = now if "month" not in given else read_month(given["month"])
    return Asked(request[CALLER].namespace, months_until(last, int(months)), MarginBy(by), now)


def read_month(text: str) -> datetime:
    """The beginning of a month such as 2026-10.

    Raises:
        InvalidInput: it is none.
    """
    if re.fullmatch(MONTH, text, re.ASCII) is None:
        raise _wrong("month", "matches_regex", "must be a month such as 2026-10")
    year, month = text.split("-")
    return datetime(int(year), int(month), 1, tzinfo=UTC)


def _wrong(name: str, rule: str, reason: str, **extra: Any) -> InvalidInput:
    parameter = InvalidParameter(name, rule, reason, source="query", extra=extra)
    return InvalidInput(f"{name} {reason}", [parameter])
