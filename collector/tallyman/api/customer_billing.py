"""`/customers/{id}/billing`: the billing profile that a customer's next invoices are made by.

Profiles themselves are `billing_profiles.py`'s.
"""

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customer_billing_bodies import (
    AppDataAnswer,
    CustomerBillingAnswer,
    ProfileReferenceBody,
    UpsertCustomerBillingRequest,
)
from tallyman.api.customers import find
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, CLOCK
from tallyman.domain.customer import Customer
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.billing_profiles import profile_of


async def get(request: web.Request) -> web.Response:
    """The customer's profile, which is the default one if it has no other."""
    parameters.refuse_any(request)
    return await _answer(request, await find(request))


async def update(request: web.Request) -> web.Response:
    """Give the customer a profile; without one it is billed by the default one again."""
    parameters.refuse_any(request)
    body = await read_body(request, UpsertCustomerBillingRequest)
    books, caller = request.app[BOOKS], request[CALLER]
    customer = await find(request)
    wanted = None if body.billing_profile is None else body.billing_profile.id
    if wanted is not None and wanted not in await books.profiles.every(caller.namespace):
        at, reason = "billing_profile.id", f"is that of no profile: {wanted}"
        raise InvalidInput(f"{at} {reason}", [InvalidParameter(at, "missing_reference", reason)])
    changed = await books.customers.bill_by(
        caller.namespace, customer.id, wanted, request.app[CLOCK](), by=caller.actor
    )
    return await _answer(request, changed)


async def _answer(request: web.Request, customer: Customer) -> web.Response:
    profiles = await request.app[BOOKS].profiles.every(customer.namespace)
    profile = profile_of(profiles, customer.billing_profile_id)
    answer = CustomerBillingAnswer(
        billing_profile=ProfileReferenceBody(id=profile.id), app_data=AppDataAnswer()
    )
    return web.Response(body=answer.to_json(), content_type=JSON)
