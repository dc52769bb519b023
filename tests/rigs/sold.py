"""Owns what is sold in tests of billing: customers, subscriptions and their invoices, in one line each.

It asserts nothing.
"""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

from tallyman.domain.billable import due
from tallyman.domain.billing_profile import Supplier, Workflow
from tallyman.domain.customer import Customer
from tallyman.domain.duration import Duration
from tallyman.domain.invoice import Invoice, invoice_id
from tallyman.domain.invoice_line import line_for
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import FlatPrice, Price, UnitPrice
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard
from tallyman.domain.subscription import Subscription, start
from tallyman.domain.usage import Usage, UsageWindow
from tallyman.store.invoice_numbers import draft_number

NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
PER_TOKEN = UnitPrice(D("0.000002"))


def customer(
    name: str, namespace: str = "default", currency: str | None = "USD", **rest: Any
) -> Customer:
    """A customer whose id and key are the name padded, with the subject of that name."""
    return Customer(
        id=name.ljust(26, "_"),
        namespace=namespace,
        key=name,
        name=name.title(),
        created_at=NOVEMBER.from_,
        updated_at=NOVEMBER.from_,
        subject_keys=(name,),
        currency=currency,
        **rest,
    )


def card(
    key: str, price: Price = PER_TOKEN, feature_id: str | None = None, **rest: Any
) -> RateCard:
    """A monthly rate card; a flat price is in advance, anything else by the feature `key`."""
    is_flat = isinstance(price, FlatPrice)
    feature = FeatureReference(feature_id or f"feature-{key}", key)
    term = PaymentTerm.IN_ADVANCE if is_flat else PaymentTerm.IN_ARREARS
    given = {
        "feature": None if is_flat else feature,
        "billing_cadence": Duration(1),
        "payment_term": term,
        **rest,
    }
    return RateCard(key=key, name=key.replace("_", " ").capitalize(), price=price, **given)


def subscription(
    whose: Customer,
    *cards: RateCard,
    at: datetime = NOVEMBER.from_,
    currency: str = "USD",
    number: int = 1,
    **rest: Any,
) -> Subscription:
    """One to a plan of one phase with these rate cards."""
    plan = Plan(
        id="plan".ljust(26, "_"),
        namespace=whose.namespace,
        key="starter",
        version=3,
        name="Starter",
        currency=currency,
        billing_cadence=Duration(1),
        phases=(PlanPhase("all", "All", cards),),
        created_at=at,
        updated_at=at,
    )
    made = start(
        plan,
        subscription_id=f"sub{number}-{whose.key}".ljust(26, "_"),
        customer_id=whose.id,
        at=at,
        created_at=at,
    )
    return replace(made, **rest)


def usage(quantity: int | str, period: Period = NOVEMBER) -> Usage:
    """So many tokens of one model."""
    window = UsageWindow(period, D(quantity), (("model", "gpt-4o"), ("type", "request")))
    return Usage(D(quantity), (window,), events=2, calls=1)


def draft(
    whose: Customer, sold: Subscription, quantity: int = 15_000, at: datetime = NOVEMBER.to
) -> Invoice:
    """What the subscription owes at the time, each usage line for the same quantity."""
    lines = tuple(
        line_for(sold, one, usage(quantity) if one.needs_usage else None)
        for one in due(sold, at)
        if one.invoice_at == at
    )
    number = invoice_id(whose.id, sold.currency, at)
    return Invoice(
        id=number,
        namespace=whose.namespace,
        number=draft_number(number),
        currency=sold.currency,
        customer=whose,
        supplier=Supplier(name="Us"),
        workflow=Workflow(),
        state=InvoiceState.DRAFT_WAITING_FOR_COLLECTION,
        service_period=NOVEMBER,
        created_at=at,
        updated_at=at,
        lines=lines,
        collection_at=at,
        invoice_at=at,
    )
