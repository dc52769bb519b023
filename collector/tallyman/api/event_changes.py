"""`/events/void` and `/events/amend`: what is stored and wrong is put right, and nothing is lost."""

import msgspec
from aiohttp import web
from pydantic import Field

from tallyman.api import parameters
from tallyman.api.event_bodies import change_answer
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, EVENT_CHANGES
from tallyman.api.wire import Body, Name
from tallyman.domain.event_change import Amendment, EventChange
from tallyman.domain.event_data import check_data
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.event_changes import Why


class VoidEventRequest(Body):
    """Which event counts for nothing from now on, and why."""

    source: Name
    id: Name
    reason: Name


class AmendEventRequest(VoidEventRequest):
    """What an event says instead, and why; what is absent stays as it is."""

    subject: Name | None = None
    dataschema: Name | None = None
    data: dict[str, object] | None = Field(default=None, description="The whole of it.")


class _Sent(msgspec.Struct):
    """The data as it came: its numbers are not to be rounded."""

    data: msgspec.Raw = msgspec.Raw()


async def void(request: web.Request) -> web.Response:
    """Let an event count for nothing."""
    parameters.refuse_any(request)
    asked = await read_body(request, VoidEventRequest)
    caller = request[CALLER]
    made = await request.app[EVENT_CHANGES].void(
        caller.namespace, asked.source, asked.id, Why(asked.reason, caller.actor)
    )
    return _answer(made)


async def amend(request: web.Request) -> web.Response:
    """Let an event say something else."""
    parameters.refuse_any(request)
    asked = await read_body(request, AmendEventRequest)
    data = None if asked.data is None else _data(await request.read())
    if asked.subject is None and asked.dataschema is None and data is None:
        reason = "or subject or dataschema is required"
        parameter = InvalidParameter("data", "required", reason)
        raise InvalidInput(f"data {reason}", [parameter])
    caller = request[CALLER]
    made = await request.app[EVENT_CHANGES].amend(
        caller.namespace,
        asked.source,
        asked.id,
        Amendment(asked.subject, asked.dataschema, data),
        Why(asked.reason, caller.actor),
    )
    return _answer(made)


def _data(body: bytes) -> msgspec.Raw:
    try:
        sent = msgspec.json.decode(body, type=_Sent).data
    except (msgspec.DecodeError, RecursionError) as err:
        parameter = InvalidParameter("data", "invalid", f"must be JSON: {err}")
        raise InvalidInput(f"data must be JSON: {err}", [parameter]) from err
    broken = check_data(bytes(sent))
    if broken is not None:
        raise InvalidInput(f"{broken.field} {broken.reason}", [broken])
    return sent


def _answer(made: EventChange) -> web.Response:
    return web.Response(body=msgspec.json.encode(change_answer(made)), content_type=JSON)
