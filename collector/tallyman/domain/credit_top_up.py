"""When a customer's credit is topped up, and by how much. Pure.

It charges nobody: see `billing/credit_top_up.py`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tallyman.domain.content_id import content_id
from tallyman.domain.credit import (
    CreditGrant,
    CreditPurchase,
    FundingMethod,
    GrantKind,
)
from tallyman.domain.money import EXACT, total

PAUSE: Final = timedelta(days=1)  # so that what Stripe refuses is not asked for at every look


@dataclass(frozen=True)
class CreditTopUp:
    """Below `threshold` of live credit `amount` is bought, as long as a calendar month (UTC) comes to
    no more than `most_per_month`."""

    namespace: str
    customer_id: str
    currency: str
    threshold: Decimal
    amount: Decimal
    most_per_month: Decimal
    created_at: datetime
    updated_at: datetime


def next_top_up(
    setting: CreditTopUp, live: Decimal, before: list[CreditGrant], now: datetime
) -> CreditGrant | None:
    """The grant that is to be bought now; the same one until it is made, whoever asks.

    `before` are all top-ups of the customer in the currency. None while enough is left, one is being
    paid, or the month's limit is reached; nor within a day of one that was refused or voided unpaid,
    unless the setting was put anew since.
    """
    if live >= setting.threshold:
        return None
    if any(one.waits_for_payment and one.voided_at is None for one in before):
        return None
    ended = [x.voided_at for x in before if x.waits_for_payment and x.voided_at is not None]
    if any(setting.updated_at <= at and now < at + PAUSE for at in ended):
        return None
    month = [
        one.amount
        for one in before
        if one.voided_at is None
        and (one.created_at.year, one.created_at.month) == (now.year, now.month)
    ]
    if EXACT.add(total(month), setting.amount) > setting.most_per_month:
        return None
    number = str(len(before) + 1)
    return CreditGrant(
        id=content_id(setting.created_at, "top_up", setting.customer_id, setting.currency, number),
        namespace=setting.namespace,
        customer_id=setting.customer_id,
        currency=setting.currency,
        amount=setting.amount,
        name=f"Top-up {number}",
        effective_at=now,
        created_at=now,
        updated_at=now,
        funding_method=FundingMethod.EXTERNAL,
        kind=GrantKind.TOP_UP,
        purchase=CreditPurchase(setting.currency, setting.amount, waits_for_payment=True),
    )
