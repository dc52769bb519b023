"""`/customers/{id}/credits/top-ups/{currency}`: how a customer's credit is topped up by itself.

When it is, the domain says; who is paid, Stripe's part.
"""

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.apps import stripe_of
from tallyman.api.credit_top_up_bodies import CreditTopUpAnswer, PutCreditTopUpRequest
from tallyman.api.customers import find, path_text
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, DATABASE, NOW
from tallyman.domain.credit_top_up import CreditTopUp
from tallyman.domain.money import is_currency
from tallyman.domain.stripe_amount import stripe_amount
from tallyman.errors import NotFound
from tallyman.store.credit_top_ups import CreditTopUpStore


async def get(request: web.Request) -> web.Response:
    """How the credit is topped up."""
    parameters.refuse_any(request)
    customer = await find(request)
    return _answer(await _store(request).get(customer.id, _currency(request)))


async def put(request: web.Request) -> web.Response:
    """Have the credit topped up."""
    parameters.refuse_any(request)
    body = await read_body(request, PutCreditTopUpRequest)
    stripe_of(request)
    customer, caller = await find(request), request[CALLER]
    wanted = body.setting(caller.namespace, customer.id, _currency(request), request[NOW])
    stripe_amount(wanted.amount, wanted.currency)  # or nothing could ever be bought
    return _answer(await _store(request).put(wanted, by=caller.actor))


async def delete(request: web.Request) -> web.Response:
    """Have the credit topped up no more."""
    parameters.refuse_any(request)
    customer = await find(request)
    setting = await _store(request).get(customer.id, _currency(request))
    await _store(request).remove(setting, request[NOW], by=request[CALLER].actor)
    return web.Response(status=204)


def _store(request: web.Request) -> CreditTopUpStore:
    return CreditTopUpStore(request.app[DATABASE])


def _currency(request: web.Request) -> str:
    """The currency that the path names.

    Raises:
        NotFound: it is none.
    """
    currency = path_text(request, "currency")
    if not is_currency(currency):
        raise NotFound(f"{currency} is no currency that credit is in")
    return currency


def _answer(setting: CreditTopUp) -> web.Response:
    return web.Response(body=CreditTopUpAnswer.of(setting).to_json(), content_type=JSON)
