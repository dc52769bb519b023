"""`POST /events`: one event or a batch, by content type."""

from datetime import UTC, datetime

from aiohttp import web

from tallyman.domain.event import parse_event, parse_events
from tallyman.store.events import EventStore, Received

STORE = web.AppKey("store", EventStore)


async def ingest(request: web.Request) -> web.Response:
    """Answer 202 when every event of the body is durable."""
    body = await request.read()
    if request.content_type == "application/cloudevents-batch+json" or body.lstrip()[:1] == b"[":
        parsed = parse_events(body)
    else:
        parsed = [parse_event(body)]
    now = datetime.now(UTC)
    await request.app[STORE].accept([Received("default", event, now) for event in parsed])
    return web.Response(status=202)
