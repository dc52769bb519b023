"""A customer at Stripe: the one that is linked, or a new one, made once.

The link itself is kept by `store/stripe_customers.py`.
"""

from dataclasses import replace
from datetime import datetime

from tallyman.domain.customer import Customer
from tallyman.errors import StripeKeySpent
from tallyman.payments.stripe_calls import StripeCalls, generation_metadata
from tallyman.payments.stripe_lines import CUSTOMER_KEY, customer_params
from tallyman.payments.stripe_memory import BY, CLOCKS, KEY_MEMORY
from tallyman.store.stripe_customers import StripeCustomerStore


async def customer_at_stripe(
    links: StripeCustomerStore, calls: StripeCalls, customer: Customer, now: datetime
) -> str:
    """The id of the customer at Stripe.

    Raises:
        StripeUnanswered: Stripe did not answer.
        StripeRefused: Stripe takes no such customer.
    """
    link = await links.get(customer.namespace, customer.id)
    if link.stripe_id is not None:
        return link.stripe_id
    spent = link.attempted_at is not None and now - link.attempted_at >= KEY_MEMORY
    if link.attempted_at is None:
        link = await links.attempt(link, link.generation, now)
    while True:
        made = generation_metadata(CUSTOMER_KEY, customer.id, link.generation)
        if spent:
            since = (link.attempted_at or now) - CLOCKS
            found = await calls.find_customer(made, since, now + CLOCKS)
            if found is not None:
                break
            link = await links.attempt(link, link.generation + 1, now)
        key = f"tallyman-{customer.id}-customer-{link.generation}"
        try:
            found = await calls.create_customer(customer_params(customer, link.generation), key)
            break
        except StripeKeySpent:
            if spent:
                raise
            spent = True
    link = await links.get(customer.namespace, customer.id)
    if link.stripe_id is not None:  # someone has linked it meanwhile
        return link.stripe_id
    await links.put(replace(link, stripe_id=found), now, by=BY)
    return found
