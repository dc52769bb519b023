"""The body of `PUT /billing/invoices/{id}`: what can be changed of a draft by hand.

Its lines come from subscriptions: they may be sent along, and must be what they are.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tallyman.api.billing_profile_bodies import DEFAULTS
from tallyman.api.customer_bodies import AddressBody, ExternalKey, UsageAttribution
from tallyman.api.invoice_line_bodies import LineRateCard
from tallyman.api.party_bodies import PartyBody
from tallyman.api.rate_card_bodies import DiscountsBody, PriceBody, TaxConfigBody, UnitConfigBody
from tallyman.api.wire import (
    Body,
    Description,
    DurationText,
    Labels,
    Name,
    ResourceKey,
    Time,
    Ulid,
)
from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.duration import parse_duration
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_edit import InvoiceEdit, Invoicing, Payment
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.period import Period
from tallyman.errors import InvalidInput, InvalidParameter, InvoiceLineCannotBeEdited


class EditedCustomer(Body):
    """The customer on the invoice: its name and address; the rest is not changed by it."""

    id: Ulid
    key: ExternalKey | None = None
    name: Name
    usage_attribution: UsageAttribution | None = None
    billing_address: AddressBody | None = None


class EditedInvoicing(Body):
    """How the draft goes on; what is absent is the default."""

    auto_advance: bool | None = None
    draft_period: DurationText | None = None

    def invoicing(self) -> Invoicing:
        """What it says."""
        auto_advance, period = self.auto_advance, self.draft_period
        return Invoicing(
            DEFAULTS.auto_advance if auto_advance is None else auto_advance,
            DEFAULTS.draft_period if period is None else parse_duration(period),
        )


class EditedPayment(Body):
    """How it is paid; what is absent is the default."""

    collection_method: CollectionMethod
    due_after: DurationText | None = None

    def payment(self) -> Payment:
        """What it says."""
        due = DEFAULTS.due_after if self.due_after is None else parse_duration(self.due_after)
        return Payment(self.collection_method, due)


class EditedWorkflow(Body):
    """The parts that are absent stay as they are."""

    invoicing: EditedInvoicing | None = None
    payment: EditedPayment | None = None


class EditedWorkflowSettings(Body):
    """The workflow of this invoice."""

    workflow: EditedWorkflow


class SentPeriod(Body):
    """The period of a line."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time


class SentRateCard(Body):
    """What a line is priced by."""

    price: PriceBody
    tax_config: TaxConfigBody | None = None
    feature_key: ResourceKey | None = None
    discounts: DiscountsBody | None = None
    unit_config: UnitConfigBody | None = None


class SentLine(Body):
    """A line of the invoice, as it is."""

    id: Ulid | None = None
    type: Literal["standard_line"]
    name: Name
    description: Description | None = None
    labels: Labels | None = None
    service_period: SentPeriod
    rate_card: SentRateCard


class UpdateInvoiceRequest(Body):
    """A draft as it is edited: description, labels, supplier, customer, workflow.

    Lines may be left out.
    """

    type: Literal["standard"]
    description: Description | None = None
    labels: Labels | None = None
    supplier: PartyBody
    customer: EditedCustomer
    workflow: EditedWorkflowSettings
    lines: list[SentLine] | None = None

    def edit(self, invoice: Invoice) -> InvoiceEdit:
        """What is changed of the invoice.

        Raises:
            InvalidInput: it is about another customer.
            InvoiceLineCannotBeEdited: its lines are others than the invoice's.
        """
        if self.customer.id != invoice.customer.id:
            raise _refused("customer.id", "must be that of the invoice's customer")
        if self.lines is not None:
            _check_lines(self.lines, invoice)
        address = self.customer.billing_address
        invoicing, payment = self.workflow.workflow.invoicing, self.workflow.workflow.payment
        return InvoiceEdit(
            supplier=self.supplier.supplier(),
            customer_name=self.customer.name,
            customer_address=None if address is None else address.address(),
            description=self.description,
            labels=self.labels or {},
            invoicing=None if invoicing is None else invoicing.invoicing(),
            payment=None if payment is None else payment.payment(),
        )


def _check_lines(sent: list[SentLine], invoice: Invoice) -> None:
    """Refuse any line that is not as it is, and a line that is missing."""
    by_id = {line.id: line for line in invoice.lines}
    for at, one in enumerate(sent):
        if one.id is None:
            raise _not_by_hand(f"lines[{at}]", "cannot be added by hand: give the customer a plan")
        line = by_id.pop(one.id, None)
        if line is None:
            raise _not_by_hand(f"lines[{at}].id", "must be that of a line of the invoice, once")
        for name, same in _compared(one, line).items():
            if not same:
                raise _not_by_hand(f"lines[{at}].{name}", "cannot be changed by hand")
    if by_id:
        reason = f"must have all lines, or be left out: {min(by_id)} is missing"
        raise _not_by_hand("lines", reason)


def _compared(sent: SentLine, line: InvoiceLine) -> dict[str, bool]:
    """Whether each part of the line is as it is; what says a price in other words may be missing."""
    card = sent.rate_card.model_dump(exclude_none=True, mode="json")
    kept = LineRateCard.of(line).model_dump(exclude_none=True, mode="json")
    period = sent.service_period
    return {
        "name": sent.name == line.name,
        "description": sent.description is None,
        "labels": not sent.labels,
        "service_period": Period(period.from_, period.to) == line.service_period,
        "rate_card.price": _is_part(card["price"], kept["price"]),
        "rate_card.unit_config": card.get("unit_config") in (None, kept.get("unit_config")),
        **{
            f"rate_card.{name}": card.get(name) == kept.get(name)
            for name in ("feature_key", "discounts", "tax_config")
        },
    }


def _is_part(sent: Any, kept: Any) -> bool:
    if isinstance(sent, dict) and isinstance(kept, dict):
        return all(name in kept and _is_part(sent[name], kept[name]) for name in sent)
    if isinstance(sent, list) and isinstance(kept, list):
        return len(sent) == len(kept) and all(map(_is_part, sent, kept))
    return bool(sent == kept)


def _not_by_hand(at: str, reason: str) -> InvoiceLineCannotBeEdited:
    return InvoiceLineCannotBeEdited(f"{at} {reason}", [InvalidParameter(at, "invalid", reason)])


def _refused(at: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{at} {reason}", [InvalidParameter(at, "invalid", reason)])
