"""`/reconciliation`: what is missing, for this machine's own commands, and which events are stored.

What is looked at is `stream/reconcile.py`'s.
"""

from datetime import timedelta
from typing import Final

import msgspec
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from tallyman.api import auth, parameters
from tallyman.api.request_body import read_body, require_content_type
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, CLOCK, COMPLETENESS, RECONCILIATION, SETTINGS
from tallyman.api.wire import Time
from tallyman.domain.event import parse_events
from tallyman.errors import NotFound, TooLarge
from tallyman.stream.reconcile_nodes import MadeGood

WEEK_HOURS: Final = 168


class MadeGoodRequest(BaseModel):
    """A node whose log from one time to another has no call that is not counted."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    node: str = Field(min_length=1, max_length=256)
    from_: Time = Field(alias="from")
    to: Time


class ReconcileRequest(BaseModel):
    """How far to look back, by when it came in; and which node's log has shown it complete."""

    model_config = ConfigDict(extra="forbid")

    hours: int = Field(WEEK_HOURS, ge=1, le=100_000)
    made_good: MadeGoodRequest | None = None


class StoredAnswer(msgspec.Struct):
    """Whether each event is stored, in the order asked."""

    stored: list[bool]


async def run(request: web.Request) -> web.Response:
    """Reconcile now. The answer is about every namespace, so an API key cannot ask."""
    if not auth.is_local(request):
        raise NotFound("only the commands of the server's own machine can ask for this")
    asked = await read_body(request, ReconcileRequest)
    made_good = asked.made_good
    whose = request[CALLER].namespace
    now = request.app[CLOCK]()
    report = await request.app[RECONCILIATION].run(
        now,
        now - timedelta(hours=asked.hours),
        made_good
        if made_good is None
        else MadeGood(made_good.node, made_good.from_, made_good.to, whose),
    )
    return web.Response(body=msgspec.json.encode(report), content_type=JSON)


async def stored(request: web.Request) -> web.Response:
    """Whether events, each with its time, are stored in the caller's namespace."""
    parameters.refuse_any(request)
    require_content_type(request, JSON)
    events = parse_events(await request.read())
    most = request.app[SETTINGS].max_batch_events
    if len(events) > most:
        raise TooLarge(f"the batch has {len(events)} events, and may have {most}")
    found = await request.app[COMPLETENESS].stored(request[CALLER].namespace, events)
    return web.Response(body=msgspec.json.encode(StoredAnswer(found)), content_type=JSON)
