"""`/api/v1/test-clocks`: the time of a sandbox namespace, made, read and moved forward.

A real namespace has none: its time is everybody's.
"""

from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON, Answered, Route
from tallyman.api.state import BOOKS, CALLER, ENTITLEMENTS, NOW, STRIPE
from tallyman.api.test_clock_bodies import (
    AdvanceTestClockRequest,
    CreateTestClockRequest,
    TestClockAnswer,
    TestClockList,
)
from tallyman.api.wire import Answer
from tallyman.billing.clock_advance import advance
from tallyman.domain.access import Scope
from tallyman.domain.event import EARLIEST, LATEST
from tallyman.errors import Conflict, InvalidInput, InvalidParameter

FURTHEST: Final = timedelta(days=2 * 366)  # of one request, which bills all that is due in between


async def create(request: web.Request) -> web.Response:
    """Give the caller's namespace, a sandbox, its clock."""
    parameters.refuse_any(request)
    body, caller = await read_body(request, CreateTestClockRequest), request[CALLER]
    _refuse_beyond(EARLIEST, body.frozen_time, LATEST)
    stripe = request.app[STRIPE]
    if stripe is not None and stripe.account.live and stripe.account.namespace == caller.namespace:
        raise Conflict("a namespace that takes real money by Stripe has no clock of its own")
    made = await request.app[BOOKS].sandboxes.create_clock(
        caller.namespace, body.name, body.frozen_time, by=caller.actor
    )
    return _answer(TestClockAnswer.of(made), status=201)


async def list_(request: web.Request) -> web.Response:
    """The namespace's clock, or nothing."""
    parameters.refuse_any(request)
    found = await request.app[BOOKS].sandboxes.clocks(request[CALLER].namespace)
    return _answer(TestClockList(data=[TestClockAnswer.of(one) for one in found]))


async def get(request: web.Request) -> web.Response:
    """One clock."""
    parameters.refuse_any(request)
    sandboxes, namespace = request.app[BOOKS].sandboxes, request[CALLER].namespace
    found = await sandboxes.get_clock(namespace, path_text(request, "clockId"))
    return _answer(TestClockAnswer.of(found))


async def move(request: web.Request) -> web.Response:
    """Move the clock forward, and bill on the way."""
    parameters.refuse_any(request)
    body, caller = await read_body(request, AdvanceTestClockRequest), request[CALLER]
    _refuse_beyond(EARLIEST, body.frozen_time, min(LATEST, request[NOW] + FURTHEST))
    moved = await advance(
        request.app[BOOKS],
        caller.namespace,
        path_text(request, "clockId"),
        body.frozen_time,
        by=caller.actor,
    )
    await request.app[ENTITLEMENTS].catch_up(request[CALLER].namespace)
    return _answer(TestClockAnswer.of(moved))


def _refuse_beyond(first: datetime, moment: datetime, last: datetime) -> None:
    if not first <= moment < last:
        reason = f"must be from {first.isoformat()} on and before {last.isoformat()}"
        raise InvalidInput(
            f"frozen_time {reason}", [InvalidParameter("frozen_time", "invalid", reason)]
        )


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)


_CLOCK: Final = {JSON: TestClockAnswer}
ROUTES: Final = (
    Route(
        "POST", "/api/v1/test-clocks", create, Scope.BILLING,
        "create-test-clock", "Give a sandbox its clock",
        Answered(201, "The clock.", _CLOCK),
        "From then on it is `frozen_time` in the namespace, until the clock is moved. The namespace must "
        "be a sandbox, and empty.",
        body={JSON: CreateTestClockRequest}, openmeter=False, problems=(409, 413),
    ),
    Route(
        "GET", "/api/v1/test-clocks", list_, Scope.READ,
        "list-test-clocks", "Read the namespace's clock",
        Answered(200, "The clock, or nothing.", {JSON: TestClockList}), openmeter=False,
    ),
    Route(
        "GET", "/api/v1/test-clocks/{clockId}", get, Scope.READ,
        "get-test-clock", "Read a clock",
        Answered(200, "The clock.", _CLOCK), openmeter=False, problems=(404,),
    ),
    Route(
        "POST", "/api/v1/test-clocks/{clockId}/advance", move, Scope.BILLING,
        "advance-test-clock", "Move a clock forward",
        Answered(200, "The clock, which has arrived.", _CLOCK),
        "Billing runs at each moment on the way at which something is due.",
        body={JSON: AdvanceTestClockRequest}, openmeter=False, problems=(404, 413),
    ),
)  # fmt: skip
