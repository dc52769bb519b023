"""The way to pay that a customer has left on Stripe's page: from then on it pays with that.

Opening the page is the API's.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from tallyman.domain.billing_profile import App
from tallyman.domain.invoice import act
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.stripe_lines import CUSTOMER_KEY
from tallyman.payments.stripe_memory import BY
from tallyman.payments.stripe_stores import StripeStores
from tallyman.store.comparison import Comparison
from tallyman.store.stripe_customers import StripeCustomer

AT_ONCE: Final = 100  # invoices of one customer


async def take_way_to_pay(
    stores: StripeStores,
    calls: OperationCalls,
    link: StripeCustomer,
    hinted_at: datetime,
    now: datetime,
) -> None:
    """Make the one that was left last the customer's own at Stripe, and ours where we name one.

    What the customer could not pay before is asked for again.

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
                await stores.links.put(named, now, by=BY)
            await _ask_again(stores, link, now)
    await stores.links.looked(link, hinted_at)


async def _ask_again(stores: StripeStores, link: StripeCustomer, now: datetime) -> None:
    failed = [
        Comparison("customer_id", "eq", (link.customer_id,)),
        Comparison("state", "eq", (str(InvoiceState.PAYMENT_FAILED),)),
        Comparison("app", "eq", (str(App.STRIPE),)),
    ]
    found, _ = await stores.invoices.page(link.namespace, failed, limit=AT_ONCE)
    changes = [(one, act(one, Trigger.RETRY, now)) for one in found]
    await stores.invoices.replace(link.namespace, changes, by=BY, action=str(Trigger.RETRY))
