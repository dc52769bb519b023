"""`/features`: made, read, listed, changed and deleted.

What a feature's price is, is the plan's: `plans.py`.
"""

import logging
from dataclasses import replace
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.feature_bodies import (
    CreatedFeatureAnswer,
    CreateFeatureRequest,
    FeatureAnswer,
    FeaturePage,
    UpdateFeatureRequest,
)
from tallyman.api.feature_warnings import never_passed
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, EVENTS, FEATURES, METERS, NOW
from tallyman.api.wire import Answer
from tallyman.domain.feature import Feature, LlmUnitCost
from tallyman.domain.llm_price import LlmPrice
from tallyman.errors import Unavailable
from tallyman.store.features import FILTERED, SORTABLE

log = logging.getLogger("tallyman")
LIST: Final = ListParameters(texts=FILTERED, sortable=SORTABLE, descending=False, pages="numbered")


async def create(request: web.Request) -> web.Response:
    """Make a feature."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateFeatureRequest)
    caller, now = request[CALLER], request[NOW]
    feature = Feature(
        id="",
        namespace=caller.namespace,
        key=body.key,
        name=body.name,
        created_at=now,
        updated_at=now,
        meter=None if body.meter is None else body.meter.meter(),
        unit_cost=body.cost(),
        description=body.description,
        labels=body.labels or {},
    )
    made = await request.app[FEATURES].create(feature, by=caller.actor)
    try:
        warnings = await never_passed(request.app[EVENTS], request.app[METERS], made, now)
    except Unavailable as err:  # it is made
        log.warning("the filters of feature %s were not tried: %s", made.key, err)
        warnings = []
    return _answer(CreatedFeatureAnswer.created(made, warnings), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the features."""
    asked = LIST.read(request)
    features, total = await request.app[FEATURES].list(
        request[CALLER].namespace,
        comparisons_of(asked),
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    return _answer(FeaturePage(data=[FeatureAnswer.of(found) for found in features], meta=meta))


async def get(request: web.Request) -> web.Response:
    """One feature."""
    parameters.refuse_any(request)
    feature = await _find(request)
    return _answer(FeatureAnswer.of(feature, await _price(request, feature)))


async def update(request: web.Request) -> web.Response:
    """Change a feature's unit cost."""
    parameters.refuse_any(request)
    body = await read_body(request, UpdateFeatureRequest)
    feature = await _find(request)
    if "unit_cost" in body.model_fields_set:
        caller, now = request[CALLER], request[NOW]
        changed = replace(feature, unit_cost=body.cost(), updated_at=now)
        feature = await request.app[FEATURES].replace(changed, by=caller.actor)
    return _answer(FeatureAnswer.of(feature, await _price(request, feature)))


async def delete(request: web.Request) -> web.Response:
    """Delete a feature."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await request.app[FEATURES].delete(
        caller.namespace, path_text(request, "featureId"), by=caller.actor
    )
    return web.Response(status=204)


async def _price(request: web.Request, feature: Feature) -> LlmPrice | None:
    """The price now of the one model that the unit cost names; None where events name it."""
    cost = feature.unit_cost
    if not isinstance(cost, LlmUnitCost) or cost.provider is None or cost.model is None:
        return None
    book = await request.app[BOOKS].prices.book(feature.namespace, request[NOW])
    return book.price_at(cost.provider, cost.model, request[NOW])


async def _find(request: web.Request) -> Feature:
    return await request.app[FEATURES].get(
        request[CALLER].namespace, path_text(request, "featureId")
    )


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
