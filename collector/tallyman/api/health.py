"""Whether the collector is alive and ready, and its metrics."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tallyman.api import parameters
from tallyman.api.route import JSON
from tallyman.api.state import CLOCK, DATABASE, EVENTS, UNATTRIBUTED_GAUGE


async def alive(request: web.Request) -> web.Response:
    """The process answers."""
    return web.Response(body=b'{"status":"alive"}', content_type=JSON)


async def ready(request: web.Request) -> web.Response:
    """The stores answer; 503 if not."""
    await request.app[DATABASE].check()
    await request.app[EVENTS].ping()
    return web.Response(body=b'{"status":"ready"}', content_type=JSON)


async def prometheus(request: web.Request) -> web.Response:
    """The metrics of this process, and of what is stored."""
    parameters.refuse_any(request)
    await request.app[UNATTRIBUTED_GAUGE].refresh(request.app[CLOCK]())
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
