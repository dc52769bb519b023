"""An invoice line as OpenMeter's v3 API has it.

What is behind its amount is `line_explanation_bodies.py`'s.
"""

from typing import Annotated, Literal, Self

from pydantic import Field

from tallyman.api.line_explanation_bodies import Explanation
from tallyman.api.rate_card_bodies import (
    DiscountsBody,
    PriceBody,
    TaxConfigBody,
    UnitConfigBody,
    rate_card_of,
)
from tallyman.api.wire import Answer, Name, Numeric, ResourceKey, Time, Ulid
from tallyman.domain.content_id import content_id
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine, Totals
from tallyman.domain.money import EXACT, total
from tallyman.domain.period import Period
from tallyman.domain.plan_document import write_rate_card
from tallyman.domain.rating.detailed_line import Category, DetailedLine, DiscountReason


class ClosedPeriod(Answer):
    """[from, to)."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time

    @classmethod
    def of(cls, period: Period) -> Self:
        """The period on the wire."""
        return cls(from_=period.from_, to=period.to)


class TotalsAnswer(Answer):
    """amount + charges − discounts − credits + exclusive taxes = total."""

    amount: Numeric
    taxes_total: Numeric
    taxes_inclusive_total: Numeric
    taxes_exclusive_total: Numeric
    charges_total: Numeric
    discounts_total: Numeric
    credits_total: Numeric
    total: Numeric

    @classmethod
    def of(cls, totals: Totals) -> Self:
        """The totals on the wire."""
        return cls(
            amount=totals.amount,
            taxes_total=totals.taxes,
            taxes_inclusive_total=totals.taxes_inclusive,
            taxes_exclusive_total=totals.taxes_exclusive,
            charges_total=totals.charges,
            discounts_total=totals.discounts,
            credits_total=totals.credits,
            total=totals.total,
        )


class AmountDiscountAnswer(Answer):
    """What is taken off the amount."""

    id: Ulid
    reason: DiscountReason
    description: str
    amount: Numeric


class UsageDiscountAnswer(Answer):
    """What is taken off the quantity."""

    id: Ulid
    reason: DiscountReason
    quantity: Numeric


class DiscountsAnswer(Answer):
    """What is taken off."""

    amount: list[AmountDiscountAnswer] | None = None
    usage: list[UsageDiscountAnswer] | None = None


class DetailedLineAnswer(Answer):
    """One priced component: exact, before the line's one rounding."""

    id: Ulid
    name: str
    created_at: Time
    updated_at: Time
    service_period: ClosedPeriod
    totals: TotalsAnswer
    category: Category
    discounts: DiscountsAnswer | None = None
    quantity: Numeric
    unit_price: Numeric

    @classmethod
    def of(cls, detail: DetailedLine, line: InvoiceLine, invoice: Invoice) -> Self:
        """The detailed line on the wire."""
        return cls(
            id=_id(line, detail.reference),
            name=detail.name,
            created_at=invoice.created_at,
            updated_at=invoice.updated_at,
            service_period=ClosedPeriod.of(line.service_period),
            totals=_exact_totals(detail),
            category=detail.category,
            discounts=_amount_discounts(detail, line),
            quantity=detail.quantity,
            unit_price=detail.unit_price,
        )


class LineRateCard(Answer):
    """What the line was priced by."""

    price: PriceBody
    tax_config: TaxConfigBody | None = None
    feature_key: ResourceKey | None = None
    discounts: DiscountsBody | None = None
    unit_config: UnitConfigBody | None = None

    @classmethod
    def of(cls, line: InvoiceLine) -> Self:
        """The rate card on the wire."""
        card, feature = rate_card_of(write_rate_card(line.rate_card)), line.rate_card.feature
        return cls(
            price=card.price,
            tax_config=card.tax_config,
            feature_key=None if feature is None else feature.key,
            discounts=card.discounts,
            unit_config=card.unit_config,
        )


class QuantityDetail(Answer):
    """What the meter said, and what is billed of it."""

    raw_quantity: Numeric
    invoiced_quantity: Numeric
    display_unit: str | None = None


class Reference(Answer):
    """Something by its id."""

    id: Ulid


class PhaseReference(Answer):
    """A phase of a subscription, and an item of it."""

    id: Ulid
    item: Reference


class SubscriptionReference(Answer):
    """What the line is owed by."""

    id: Ulid
    phase: PhaseReference


class CreditAppliedAnswer(Answer):
    """What credit has paid of the line, grant by grant; less than zero was given back."""

    amount: Numeric
    description: str | None = None


class InvoiceLineAnswer(Answer):
    """One rate card for one service period."""

    id: Ulid
    type: Literal["standard_line"]
    name: Name
    created_at: Time
    updated_at: Time
    lifecycle_controller: Literal["system"]
    service_period: ClosedPeriod
    totals: TotalsAnswer
    discounts: DiscountsAnswer | None = None
    credits_applied: list[CreditAppliedAnswer] | None = None
    subscription: SubscriptionReference
    rate_card: LineRateCard
    detailed_lines: list[DetailedLineAnswer]
    usage_quantity_detail: QuantityDetail | None = None
    explanation: Explanation

    @classmethod
    def of(cls, line: InvoiceLine, invoice: Invoice) -> Self:
        """The line on the wire."""
        return cls(
            id=line.id,
            type="standard_line",
            name=line.name,
            created_at=invoice.created_at,
            updated_at=invoice.updated_at,
            lifecycle_controller="system",
            service_period=ClosedPeriod.of(line.service_period),
            totals=TotalsAnswer.of(line.totals),
            discounts=_usage_discount(line),
            credits_applied=_credits(line),
            subscription=SubscriptionReference(
                id=line.subscription_id,
                phase=PhaseReference(id=line.phase_id, item=Reference(id=line.item_id)),
            ),
            rate_card=LineRateCard.of(line),
            detailed_lines=[
                DetailedLineAnswer.of(detail, line, invoice) for detail in line.detailed_lines
            ],
            usage_quantity_detail=_quantity(line),
            explanation=Explanation.of(line),
        )


def _id(line: InvoiceLine, *parts: str) -> str:
    return content_id(line.service_period.from_, line.id, *parts)


def _exact_totals(detail: DetailedLine) -> TotalsAnswer:
    is_charge = detail.category is Category.COMMITMENT
    zero = EXACT.subtract(detail.amount, detail.amount)
    return TotalsAnswer.of(
        Totals(
            amount=zero if is_charge else detail.amount,
            charges=detail.amount if is_charge else zero,
            discounts=total(off.amount for off in detail.discounts),
            total=detail.total,
        )
    )


def _amount_discounts(detail: DetailedLine, line: InvoiceLine) -> DiscountsAnswer | None:
    if not detail.discounts:
        return None
    return DiscountsAnswer(
        amount=[
            AmountDiscountAnswer(
                id=_id(line, detail.reference, str(off.reason)),
                reason=off.reason,
                description=off.description,
                amount=off.amount,
            )
            for off in detail.discounts
        ]
    )


def _usage_discount(line: InvoiceLine) -> DiscountsAnswer | None:
    if not line.discounted_quantity:
        return None
    reason = DiscountReason.RATECARD_USAGE
    discount = UsageDiscountAnswer(
        id=_id(line, str(reason)), reason=reason, quantity=line.discounted_quantity
    )
    return DiscountsAnswer(usage=[discount])


def _credits(line: InvoiceLine) -> list[CreditAppliedAnswer] | None:
    applied = [
        CreditAppliedAnswer(amount=one.amount, description=one.description)
        for one in line.credits_applied
    ]
    if not applied and line.totals.credits:
        applied = [CreditAppliedAnswer(amount=line.totals.credits)]
    return applied or None


def _quantity(line: InvoiceLine) -> QuantityDetail | None:
    if line.raw_quantity is None or line.invoiced_quantity is None:
        return None
    config = line.rate_card.unit_config
    return QuantityDetail(
        raw_quantity=line.raw_quantity,
        invoiced_quantity=line.invoiced_quantity,
        display_unit=None if config is None else config.display_unit,
    )
