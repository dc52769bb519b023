"""A customer's change of name, e-mail or address, passed on to Stripe, which mails and prints them.

Making the customer there is `stripe_customer.py`'s.
"""

import logging
from datetime import datetime

from tallyman.errors import StripeRefused
from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.stripe_lines import changed_customer_params
from tallyman.payments.stripe_stores import StripeStores
from tallyman.store.stripe_customers import StripeCustomer

_log = logging.getLogger(__name__)


async def tell_change(
    stores: StripeStores, calls: OperationCalls, link: StripeCustomer, changed_at: datetime
) -> None:
    """Let Stripe have what the customer is called now; what Stripe refuses is logged and left.

    Raises:
        StripeUnanswered: Stripe did not answer; the change is still to be told.
    """
    found = await stores.customers.with_ids(link.namespace, [link.customer_id])
    if found and link.stripe_id is not None:
        try:
            await calls.update_customer(link.stripe_id, changed_customer_params(found[0]))
        except StripeRefused as err:
            _log.error("Stripe refused the change of customer %s: %s", link.customer_id, err)
    await stores.links.told(link, changed_at)
