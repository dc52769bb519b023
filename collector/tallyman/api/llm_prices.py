"""`/llm-cost`: what models cost, overrides of it, and prices that wait for a decision.

How lists are read is `domain/price_list.py`'s; they are imported by the command `tallyman prices`.
"""

from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.llm_price_bodies import (
    CreateOverrideRequest,
    DecisionRequest,
    HeldPriceAnswer,
    HeldPrices,
    PriceAnswer,
    PricePage,
    moment_of,
)
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Answer
from tallyman.domain.llm_price import LlmPrice
from tallyman.store.comparison import Comparison
from tallyman.store.llm_prices import FILTERED, SORTABLE, LlmPriceStore
from tallyman.store.price_changes import PriceChanges

LIST: Final = ListParameters(texts=FILTERED, sortable=SORTABLE, descending=False, pages="numbered")


async def list_(request: web.Request) -> web.Response:
    """One page of the prices, overrides among them."""
    return await _page(request, [])


async def list_overrides(request: web.Request) -> web.Response:
    """One page of the overrides."""
    return await _page(request, [Comparison("source", "eq", ("manual",))])


async def get(request: web.Request) -> web.Response:
    """One price."""
    parameters.refuse_any(request)
    price = await _store(request).get(
        request[CALLER].namespace, path_text(request, "priceId"), request[NOW]
    )
    return _answer(PriceAnswer.of(price))


async def create_override(request: web.Request) -> web.Response:
    """Say what a model costs, in place of what the lists say."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateOverrideRequest)
    caller, now = request[CALLER], request[NOW]
    price = LlmPrice(
        id="",
        namespace=caller.namespace,
        provider=body.provider,
        model=body.model_id,
        model_name=body.model_name or "",
        pricing=body.pricing.pricing(),
        currency=body.currency,
        source="manual",
        origin="",
        effective_from=body.effective_from,
        effective_to=body.effective_to,
        created_at=now,
        updated_at=now,
    )
    made = await _store(request).create_override(price, by=caller.actor)
    return _answer(PriceAnswer.of(made), status=201)


async def delete_override(request: web.Request) -> web.Response:
    """Take an override back."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await _store(request).delete_override(
        caller.namespace, path_text(request, "priceId"), request[NOW], by=caller.actor
    )
    return web.Response(status=204)


async def list_held(request: web.Request) -> web.Response:
    """The prices that wait for a decision."""
    parameters.refuse_any(request)
    namespace = request[CALLER].namespace
    prices = await _store(request).every(namespace, request[NOW])
    by_id = {price.id: price for price in prices}
    held = await _changes(request).held(namespace, "open")
    return _answer(
        HeldPrices(data=[HeldPriceAnswer.of(one, by_id.get(one.in_force)) for one in held])
    )


async def accept(request: web.Request) -> web.Response:
    """Put a price that waits in force."""
    return await _decide(request, accept=True)


async def reject(request: web.Request) -> web.Response:
    """Keep the price in force, and hold the other no more."""
    return await _decide(request, accept=False)


async def _decide(request: web.Request, *, accept: bool) -> web.Response:
    parameters.refuse_any(request)
    given = None
    if accept and request.can_read_body:
        given = await read_body(request, DecisionRequest)
    caller = request[CALLER]
    held = await _changes(request).decide(
        caller.namespace,
        path_text(request, "heldId"),
        request[NOW],
        accept=accept,
        since=moment_of(given),
        by=caller.actor,
    )
    return _answer(HeldPriceAnswer.of(held))


async def _page(request: web.Request, always: list[Comparison]) -> web.Response:
    asked = LIST.read(request)
    prices, total = await _store(request).page(
        request[CALLER].namespace,
        always + comparisons_of(asked),
        now=request[NOW],
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    return _answer(PricePage(data=[PriceAnswer.of(price) for price in prices], meta=meta))


def _store(request: web.Request) -> LlmPriceStore:
    return request.app[BOOKS].prices


def _changes(request: web.Request) -> PriceChanges:
    return PriceChanges(request.app[BOOKS].prices)


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
