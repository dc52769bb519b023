"""`/plans`: drafts made and changed, published, archived and deleted; a published one never changes.

Who subscribes to a plan is `subscriptions.py`'s.
"""

import logging
from dataclasses import replace
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.plan_bodies import (
    CreatePlanRequest,
    PlanAnswer,
    PlanPage,
    PlanWarning,
    PublishedPlanAnswer,
    UpsertPlanRequest,
)
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW, PLANS
from tallyman.api.wire import Answer
from tallyman.billing.losses import losses
from tallyman.billing.margin_report import loss_answers, loss_line
from tallyman.domain.duration import parse_duration
from tallyman.domain.plan import Plan
from tallyman.errors import Unavailable
from tallyman.store.plan_rows import FILTERED
from tallyman.store.plans import SORTABLE

log = logging.getLogger("tallyman")
LIST: Final = ListParameters(texts=FILTERED, sortable=SORTABLE, descending=False, pages="numbered")


async def create(request: web.Request) -> web.Response:
    """Make a draft: a new plan, or the next version of one."""
    parameters.refuse_any(request)
    body = await read_body(request, CreatePlanRequest)
    caller, now = request[CALLER], request[NOW]
    made = await request.app[PLANS].create(
        Plan(
            id="",
            namespace=caller.namespace,
            key=body.key,
            version=0,
            name=body.name,
            currency=body.currency,
            billing_cadence=parse_duration(body.billing_cadence, "billing_cadence"),
            phases=body.plan_phases(),
            created_at=now,
            updated_at=now,
            pro_rating_enabled=body.pro_rating_enabled is not False,
            settlement_mode=body.settlement_mode,
            description=body.description,
            labels=body.labels or {},
        ),
        by=caller.actor,
    )
    return _answer(PlanAnswer.of(made, now), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the versions of plans."""
    asked, now = LIST.read(request), request[NOW]
    plans, total = await request.app[PLANS].list(
        request[CALLER].namespace,
        comparisons_of(asked),
        now=now,
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    return _answer(PlanPage(data=[PlanAnswer.of(plan, now) for plan in plans], meta=meta))


async def get(request: web.Request) -> web.Response:
    """One version."""
    parameters.refuse_any(request)
    return _answer(PlanAnswer.of(await _find(request), request[NOW]))


async def update(request: web.Request) -> web.Response:
    """Put a draft anew."""
    parameters.refuse_any(request)
    body = await read_body(request, UpsertPlanRequest)
    now = request[NOW]
    changed = replace(
        await _find(request),
        name=body.name,
        description=body.description,
        labels=body.labels or {},
        pro_rating_enabled=body.pro_rating_enabled is not False,
        phases=body.plan_phases(),
    )
    plan = await request.app[PLANS].replace(changed, now=now, by=request[CALLER].actor)
    return _answer(PlanAnswer.of(plan, now))


async def delete(request: web.Request) -> web.Response:
    """Delete a version that is not in force."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await request.app[PLANS].delete(
        caller.namespace, path_text(request, "planId"), request[NOW], by=caller.actor
    )
    return web.Response(status=204)


async def publish(request: web.Request) -> web.Response:
    """Put a draft in force; the version that was until now is archived."""
    parameters.refuse_any(request)
    caller, now = request[CALLER], request[NOW]
    plan = await request.app[PLANS].publish(
        caller.namespace, path_text(request, "planId"), now, by=caller.actor
    )
    return _answer(PublishedPlanAnswer.published(plan, now, await _warnings(request, plan)))


async def _warnings(request: web.Request, plan: Plan) -> list[PlanWarning]:
    try:
        losing = await losses(
            request.app[BOOKS], plan.namespace, request[NOW], {plan.key}, with_customers=False
        )
    except Unavailable as err:  # it is published
        log.warning("the prices of plan %s were not compared: %s", plan.key, err)
        return []
    found = [one for one in losing if one.plan_version == plan.version]
    return [
        PlanWarning(message=loss_line(answer, with_customers=False), rate_card=answer.rate_card)
        for answer in loss_answers(found)
    ]


async def archive(request: web.Request) -> web.Response:
    """End a version; subscriptions to it go on."""
    parameters.refuse_any(request)
    caller, now = request[CALLER], request[NOW]
    plan = await request.app[PLANS].archive(
        caller.namespace, path_text(request, "planId"), now, by=caller.actor
    )
    return _answer(PlanAnswer.of(plan, now))


async def _find(request: web.Request) -> Plan:
    return await request.app[PLANS].get(request[CALLER].namespace, path_text(request, "planId"))


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
