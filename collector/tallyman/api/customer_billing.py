"""`/customers/{id}/billing`: a customer's profile, who it is at Stripe, and Stripe's pages for it."""

from dataclasses import replace
from typing import Final

from aiohttp import web
from ulid import ULID

from tallyman.api import parameters
from tallyman.api.apps import stripe_of
from tallyman.api.customer_billing_bodies import (
    AppDataAnswer,
    AppDataBody,
    CheckoutAnswer,
    CheckoutRequest,
    CustomerBillingAnswer,
    ExternalDataBody,
    PortalAnswer,
    PortalRequest,
    ProfileReferenceBody,
    StripeDataBody,
    UpsertCustomerBillingRequest,
)
from tallyman.api.customers import find
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import APPS, BOOKS, CALLER, CLOCK, CUSTOMERS, NOW, STRIPE_CUSTOMERS
from tallyman.api.wire import Answer
from tallyman.domain.customer import Customer
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.billing_profiles import profile_of

SESSION: Final = "tallyman-session-"


async def get(request: web.Request) -> web.Response:
    """How the customer is billed."""
    parameters.refuse_any(request)
    return _answer(await _billing(request, await find(request)))


async def update(request: web.Request) -> web.Response:
    """Choose the customer's profile, and say who it is at Stripe."""
    parameters.refuse_any(request)
    body = await read_body(request, UpsertCustomerBillingRequest)
    customer = await find(request)
    profile = body.billing_profile
    if profile is not None:
        await _check_profile(request, profile)
    data = body.app_data or AppDataBody()
    await _link(request, customer, data)
    caller = request[CALLER]
    changed = await request.app[CUSTOMERS].bill_by(
        customer.namespace,
        customer.id,
        None if profile is None else profile.id,
        request[NOW],
        by=caller.actor,
    )
    return _answer(await _billing(request, changed))


async def put_app_data(request: web.Request) -> web.Response:
    """Say who the customer is at Stripe."""
    parameters.refuse_any(request)
    body = await read_body(request, AppDataBody)
    customer = await find(request)
    await _link(request, customer, body)
    data = (await _billing(request, customer)).app_data
    return _answer(AppDataAnswer(stripe=data.stripe, external_invoicing=data.external_invoicing))


async def checkout(request: web.Request) -> web.Response:
    """A page of Stripe's on which the customer leaves a way to pay."""
    parameters.refuse_any(request)
    app = stripe_of(request)
    body = await read_body(request, CheckoutRequest)
    customer = await find(request)
    stripe_id = await app.collector.customer(customer)
    params = body.stripe_options.params(stripe_id, customer)
    session = await app.calls.checkout(params, f"{SESSION}{ULID()}")
    return _answer(CheckoutAnswer.of(session, customer.id, stripe_id), 201)


async def portal(request: web.Request) -> web.Response:
    """A page of Stripe's on which the customer sees its invoices and ways to pay."""
    parameters.refuse_any(request)
    app = stripe_of(request)
    body = await read_body(request, PortalRequest)
    stripe_id = await app.collector.customer(await find(request))
    session = await app.calls.portal(body.stripe_options.params(stripe_id), f"{SESSION}{ULID()}")
    return _answer(PortalAnswer.of(session, stripe_id), 201)


async def _check_profile(request: web.Request, profile: ProfileReferenceBody) -> None:
    if profile.id not in await request.app[BOOKS].profiles.every(request[CALLER].namespace):
        at, reason = "billing_profile.id", f"is that of no profile: {profile.id}"
        raise InvalidInput(f"{at} {reason}", [InvalidParameter(at, "missing_reference", reason)])


async def _link(request: web.Request, customer: Customer, said: AppDataBody) -> None:
    """Keep what the customer is to each app; one that is named at Stripe must be there."""
    await _link_to_stripe(request, customer, said.stripe or StripeDataBody())
    external = said.external_invoicing or ExternalDataBody()
    await request.app[APPS].put_external_labels(
        customer.namespace,
        customer.id,
        external.labels or {},
        request.app[CLOCK](),
        by=request[CALLER].actor,
    )


async def _link_to_stripe(request: web.Request, customer: Customer, data: StripeDataBody) -> None:
    links = request.app[STRIPE_CUSTOMERS]
    before = await links.get(customer.namespace, customer.id)
    after = replace(
        before,
        stripe_id=data.customer_id,
        default_payment_method_id=data.default_payment_method_id,
        labels=data.labels or {},
    )
    if after == before:
        return
    if data.customer_id not in (None, before.stripe_id):
        exists = await stripe_of(request).calls.customer_exists(str(data.customer_id))
        if not exists:
            reason = f"Stripe has no customer {data.customer_id}"
            at = InvalidParameter("stripe.customer_id", "missing_reference", reason)
            raise InvalidInput(reason, [at])
    if data.customer_id is None and before.stripe_id is not None:
        # The next invoice makes another customer there, under another key.
        after = replace(after, generation=before.generation + 1, attempted_at=None)
    await links.put(after, request.app[CLOCK](), by=request[CALLER].actor)


async def _billing(request: web.Request, customer: Customer) -> CustomerBillingAnswer:
    link = await request.app[STRIPE_CUSTOMERS].get(customer.namespace, customer.id)
    labels = await request.app[APPS].external_labels(customer.namespace, customer.id)
    profiles = await request.app[BOOKS].profiles.every(customer.namespace)
    profile = profile_of(profiles, customer.billing_profile_id)
    return CustomerBillingAnswer(
        billing_profile=ProfileReferenceBody(id=profile.id),
        app_data=AppDataBody.of(link, labels),
    )


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
