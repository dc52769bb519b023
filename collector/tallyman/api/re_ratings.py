"""`…/re-rate`: a customer's past periods rated again, or shown how it would be.

What comes of it is billing's.
"""

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.credit_note_bodies import PlanVersionBody, ReRatedAnswer, ReRateRequest
from tallyman.api.customers import find
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.billing.books import Books
from tallyman.billing.re_rate import ReRatingOrder, ReRatingTiming, re_rate
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.errors import InvalidInput, InvalidParameter, named_by


async def create(request: web.Request) -> web.Response:
    """Rate a customer's service periods again."""
    parameters.refuse_any(request)
    asked = await read_body(request, ReRateRequest)
    customer, caller, books = await find(request), request[CALLER], request.app[BOOKS]
    order = await order_of(books, caller.namespace, customer.id, asked, caller.actor)
    found = await re_rate(books, caller.namespace, order, request[NOW])
    return web.Response(body=ReRatedAnswer.of(found).to_json(), content_type=JSON)


async def order_of(
    books: Books, namespace: str, customer_id: str, asked: ReRateRequest, by: str
) -> ReRatingOrder:
    """What is asked for; also for the command itself.

    Raises:
        NotFound: there is no such version of a plan.
        InvalidInput: it names no price, or a period that ends before it begins.
    """
    if asked.to <= asked.from_:
        reason = "must be after from"
        raise InvalidInput(f"to {reason}", [InvalidParameter("to", "min", reason)])
    if asked.plan is None and asked.prices is None:
        reason = "or prices is required"
        raise InvalidInput(f"plan {reason}", [InvalidParameter("plan", "required", reason)])
    plan = None if asked.plan is None else await _plan(books, namespace, asked.plan)
    return ReRatingOrder(
        customer_id,
        Period(asked.from_, asked.to),
        asked.reason,
        plan=plan,
        prices=None if asked.prices is None else {one.key: one.card() for one in asked.prices},
        timing=ReRatingTiming(asked.timing),
        refund=asked.refund,
        dry_run=asked.dry_run,
        by=by,
    )


async def _plan(books: Books, namespace: str, asked: PlanVersionBody) -> Plan:
    plans = books.plans
    if asked.id is not None and asked.key is None and asked.version is None:
        with named_by("plan.id"):
            return await plans.get(namespace, asked.id)
    if asked.id is None and asked.key is not None and asked.version is not None:
        with named_by("plan.version"):
            return await plans.version(namespace, asked.key, asked.version)
    reason = "must have an id, or a key and a version"
    raise InvalidInput(f"plan {reason}", [InvalidParameter("plan", "invalid", reason)])
