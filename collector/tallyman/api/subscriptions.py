"""`/subscriptions`: made, read, listed, changed, canceled, continued and deleted."""

import logging
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.new_subscription_bodies import (
    CancelSubscriptionRequest,
    ChangeSubscriptionRequest,
    CreateSubscriptionRequest,
)
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, ENTITLEMENTS, NOW, SUBSCRIPTIONS, USAGE_BEFORE
from tallyman.api.subscription_bodies import (
    CreatedSubscriptionAnswer,
    SubscriptionAnswer,
    SubscriptionChangeAnswer,
    SubscriptionPage,
)
from tallyman.api.wire import Answer
from tallyman.errors import Unavailable
from tallyman.store.subscription_rows import FILTERED
from tallyman.store.subscriptions import SORTABLE

log = logging.getLogger("tallyman")
LIST: Final = ListParameters(texts=FILTERED, sortable=SORTABLE, descending=False, pages="numbered")


async def create(request: web.Request) -> web.Response:
    """Begin a subscription; the answer says what was used before it."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateSubscriptionRequest)
    caller, now = request[CALLER], request[NOW]
    made = await request.app[SUBSCRIPTIONS].create(
        caller.namespace, body.asked(body.active_from), now, by=caller.actor
    )
    await _taken_in(request)
    before = None
    try:
        before = await request.app[USAGE_BEFORE].count(made)
    except Unavailable as err:  # it is made
        log.warning("what subscription %s leaves out was not counted: %s", made.id, err)
    return _answer(CreatedSubscriptionAnswer.created(made, now, before), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the subscriptions."""
    asked, now = LIST.read(request), request[NOW]
    found, total = await request.app[SUBSCRIPTIONS].page(
        request[CALLER].namespace,
        comparisons_of(asked),
        now=now,
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    return _answer(SubscriptionPage.of(found, meta, now))


async def get(request: web.Request) -> web.Response:
    """One subscription."""
    parameters.refuse_any(request)
    found = await request.app[SUBSCRIPTIONS].get(request[CALLER].namespace, _id(request))
    return _answer(SubscriptionAnswer.of(found, request[NOW]))


async def cancel(request: web.Request) -> web.Response:
    """End a subscription: now, with its billing cycle, or at a time."""
    parameters.refuse_any(request)
    body = await read_body(request, CancelSubscriptionRequest, required=False)
    caller, now = request[CALLER], request[NOW]
    canceled = await request.app[SUBSCRIPTIONS].cancel(
        caller.namespace, _id(request), body.asked(), now, by=caller.actor
    )
    await _taken_in(request)
    return _answer(SubscriptionAnswer.of(canceled, now))


async def unschedule_cancelation(request: web.Request) -> web.Response:
    """Take a cancelation back."""
    parameters.refuse_any(request)
    caller, now = request[CALLER], request[NOW]
    continued = await request.app[SUBSCRIPTIONS].unschedule_cancelation(
        caller.namespace, _id(request), now, by=caller.actor
    )
    await _taken_in(request)
    return _answer(SubscriptionAnswer.of(continued, now))


async def change(request: web.Request) -> web.Response:
    """Go on with another plan."""
    parameters.refuse_any(request)
    body = await read_body(request, ChangeSubscriptionRequest)
    caller, now = request[CALLER], request[NOW]
    ended, begun = await request.app[SUBSCRIPTIONS].change(
        caller.namespace, _id(request), body.asked(), body.timing, now, by=caller.actor
    )
    await _taken_in(request)
    return _answer(
        SubscriptionChangeAnswer(
            current=SubscriptionAnswer.of(ended, now), next=SubscriptionAnswer.of(begun, now)
        )
    )


async def delete(request: web.Request) -> web.Response:
    """Delete a subscription that has not begun."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await request.app[SUBSCRIPTIONS].delete(
        caller.namespace, _id(request), request[NOW], by=caller.actor
    )
    await _taken_in(request)
    return web.Response(status=204)


async def _taken_in(request: web.Request) -> None:
    """Who changed it finds its entitlements changed; others do a moment later."""
    try:
        await request.app[ENTITLEMENTS].catch_up(request[CALLER].namespace)
    except Unavailable as err:  # the change is kept, and is taken in later
        log.warning("entitlements are not counted: %s", err)


def _id(request: web.Request) -> str:
    return path_text(request, "subscriptionId")


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
