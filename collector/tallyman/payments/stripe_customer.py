"""A customer at Stripe: the one that is linked, or a new one, made once.

The link itself is kept by `store/stripe_customers.py`.
"""

from dataclasses import replace
from datetime import datetime

from tallyman.domain.customer import Customer
from tallyman.payments.once import CLOCKS, Attempt, make_once
from tallyman.payments.stripe_calls import StripeCalls
from tallyman.payments.stripe_lines import CUSTOMER_KEY, customer_params
from tallyman.payments.stripe_memory import BY
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

    async def keep(attempt: Attempt) -> None:
        tried = replace(link, generation=attempt.generation, attempted_at=attempt.at)
        await links.put(tried, now)

    async def find(attempt: Attempt) -> str | None:
        if attempt.since is None:  # who was unlinked on purpose is not linked again
            is_first = attempt.generation == 0
            return await calls.search_customer(CUSTOMER_KEY, customer.id) if is_first else None
        made = attempt.metadata(CUSTOMER_KEY, customer.id)
        return await calls.find_customer(made, attempt.since, now + CLOCKS)

    async def make(attempt: Attempt) -> str:
        key = f"tallyman-{customer.id}-customer-{attempt.generation}"
        return await calls.create_customer(customer_params(customer, attempt.generation), key)

    tried = Attempt(link.generation, link.attempted_at)
    found = await make_once(tried, now, keep=keep, find=find, make=make)
    link = await links.get(customer.namespace, customer.id)
    if link.stripe_id is not None:  # someone has linked it meanwhile
        return link.stripe_id
    await links.put(replace(link, stripe_id=found), now, by=BY)
    await links.tell_if_changed(customer, now)  # it may be as an invoice has it
    return found
