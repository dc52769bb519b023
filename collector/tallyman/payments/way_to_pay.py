"""The way to pay that a customer has left on Stripe's page: from then on it pays with that.

Opening the page is the API's.
"""

from dataclasses import replace
from datetime import datetime

from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.stripe_lines import CUSTOMER_KEY
from tallyman.payments.stripe_memory import BY
from tallyman.payments.stripe_stores import StripeStores
from tallyman.store.stripe_customers import StripeCustomer


async def take_way_to_pay(
    stores: StripeStores, calls: OperationCalls, link: StripeCustomer, hinted_at: datetime
) -> None:
    """Make the one that was left last the customer's own at Stripe, and ours where we name one.

    Raises:
        StripeUnanswered: Stripe did not answer; the hint stays.
        StripeRefused: Stripe does not let us look; the hint stays.
    """
    if link.stripe_id is not None:
        left = await calls.last_way_to_pay(link.stripe_id, {CUSTOMER_KEY: link.customer_id})
        if left is not None:
            await calls.set_way_to_pay(link.stripe_id, left)
            if link.default_payment_method_id not in (None, left):
                named = replace(link, default_payment_method_id=left)
                await stores.links.put(named, hinted_at, by=BY)
    await stores.links.looked(link, hinted_at)
