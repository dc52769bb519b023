"""`/meters`: made, read, listed, changed and deleted. `meter_query.py` asks them."""

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.meter_bodies import CreateMeterRequest, MeterAnswer, MeterPage, UpdateMeterRequest
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, METERS
from tallyman.api.wire import Answer
from tallyman.domain.meter import Meter
from tallyman.store.meters import SORTABLE, MeterChange

LIST: Final = ListParameters(
    texts=("key", "name"), sortable=SORTABLE, descending=False, pages="numbered"
)


async def create(request: web.Request) -> web.Response:
    """Make a meter; it answers for events that are stored already too."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateMeterRequest)
    now = datetime.now(UTC)
    meter = await request.app[METERS].create(
        Meter(
            id="",
            namespace=request[CALLER].namespace,
            key=body.key,
            name=body.name,
            aggregation=body.aggregation,
            event_type=body.event_type,
            value_property=body.value_property,
            dimensions=body.dimensions or {},
            created_at=now,
            updated_at=now,
            description=body.description,
            labels=body.labels or {},
            events_from=body.events_from,
        ),
        by=request[CALLER].actor,
    )
    return _answer(MeterAnswer.of(meter), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the meters."""
    asked = LIST.read(request)
    meters, total = await request.app[METERS].page(
        request[CALLER].namespace,
        comparisons_of(asked),
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    return _answer(MeterPage(data=[MeterAnswer.of(meter) for meter in meters], meta=meta))


async def get(request: web.Request) -> web.Response:
    """One meter."""
    parameters.refuse_any(request)
    return _answer(MeterAnswer.of(await find(request)))


async def update(request: web.Request) -> web.Response:
    """Change a meter's name, description, labels or dimensions."""
    parameters.refuse_any(request)
    body = await read_body(request, UpdateMeterRequest)
    meter = await request.app[METERS].change(
        request[CALLER].namespace,
        request.match_info["meterId"],
        MeterChange(body.name, body.description, body.labels, body.dimensions),
        by=request[CALLER].actor,
    )
    return _answer(MeterAnswer.of(meter))


async def delete(request: web.Request) -> web.Response:
    """Delete a meter; its events stay."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await request.app[METERS].delete(
        caller.namespace, request.match_info["meterId"], by=caller.actor
    )
    return web.Response(status=204)


async def find(request: web.Request) -> Meter:
    """The meter that the path names, by its id or key, in the caller's namespace."""
    return await request.app[METERS].get(request[CALLER].namespace, request.match_info["meterId"])


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
