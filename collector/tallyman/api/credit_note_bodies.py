"""Credit notes, refunds and re-ratings on the wire: what is asked for and what is answered.

OpenMeter's v3 API has none of them; the forms are its invoices'.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool

from tallyman.api.invoice_line_bodies import ClosedPeriod
from tallyman.api.new_subscription_bodies import LARGEST_VERSION, Moment
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.rate_card_bodies import (
    CommitmentsBody,
    DiscountsBody,
    PriceBody,
    UnitConfigBody,
)
from tallyman.api.wire import (
    Answer,
    Body,
    Name,
    Numeric,
    NumericText,
    ResourceKey,
    Time,
    Ulid,
)
from tallyman.billing.re_rate import Difference, ReRated
from tallyman.domain.credit_note import CreditNote, CreditNoteLine
from tallyman.domain.plan_document import Document, read_rate_card
from tallyman.domain.rate_card import RateCard
from tallyman.domain.refund import Refund
from tallyman.store.new_subscription import PlanReference

MOST_LINES = 1000
Key = Annotated[
    Name | None,
    Field(description="The caller's own: asked again with the same, it is made once."),
]


class CreditBody(Body):
    """An amount of a line; without one, all that is left of it."""

    line_id: Ulid
    amount: NumericText | None = None


class CreateCreditNoteRequest(Body):
    """What is taken back of an invoice.

    `goodwill` lets amounts off: of the lines named, or all that is left of every line. `correction` is
    what the lines are too high by, counted and rated anew. With `refund`, what was paid comes back.
    """

    reason: Name
    kind: Literal["goodwill", "correction"] = "goodwill"
    lines: Annotated[list[CreditBody], Field(min_length=1, max_length=MOST_LINES)] | None = None
    refund: StrictBool = False
    key: Key = None


class VoidCreditNoteRequest(Body):
    """Why the credit note is taken back."""

    reason: Annotated[Name | None, Field(description="It is kept in the audit log.")] = None


class CreateRefundRequest(Body):
    """What is given back of what was paid: an amount, or all of it, of a credit note if one is named."""

    reason: Name
    amount: NumericText | None = None
    credit_note_id: Ulid | None = None
    key: Key = None


class CreditNoteLineAnswer(Answer):
    """`amount` is what was taken back of the line `line_id`; a correction has the quantity too."""

    id: Ulid
    line_id: Ulid
    name: str
    service_period: ClosedPeriod
    amount: Numeric
    quantity: Numeric | None = None

    @classmethod
    def of(cls, line: CreditNoteLine) -> Self:
        """The line on the wire."""
        counted = None if line.correction is None else line.correction.raw_quantity
        return cls(
            id=line.id,
            line_id=line.invoice_line_id,
            name=line.name,
            service_period=ClosedPeriod.of(line.service_period),
            amount=line.amount,
            quantity=None if counted is None else -counted,
        )


class NotedInvoice(Answer):
    """The invoice that a credit note is of."""

    id: Ulid
    number: str


class CreditNoteAnswer(Answer):
    """A credit note. Before the invoice was paid, less is due of it; after, money may come back."""

    id: Ulid
    number: str
    status: Literal["issued", "voided"]
    kind: Literal["goodwill", "correction"]
    reason: str
    actor: str
    currency: str
    total: Numeric
    after_payment: bool
    invoice: NotedInvoice
    customer_id: Ulid
    lines: list[CreditNoteLineAnswer]
    created_at: Time
    watermark: Time | None = None
    voided_at: Time | None = None
    external_id: str | None = None

    @classmethod
    def of(cls, note: CreditNote) -> Self:
        """The credit note on the wire."""
        return cls(
            id=note.id,
            number=note.number,
            status="issued" if note.voided_at is None else "voided",
            kind=note.kind.value,
            reason=note.reason,
            actor=note.actor,
            currency=note.currency,
            total=note.total,
            after_payment=note.was_paid,
            invoice=NotedInvoice(id=note.invoice_id, number=note.invoice_number),
            customer_id=note.customer_id,
            lines=[CreditNoteLineAnswer.of(line) for line in note.lines],
            created_at=note.created_at,
            watermark=note.watermark,
            voided_at=note.voided_at,
            external_id=note.external_id,
        )


class CreditNotePage(Answer):
    """A page of credit notes."""

    data: list[CreditNoteAnswer]
    meta: PaginatedMeta


class RefundAnswer(Answer):
    """Money given back: pending until whoever collects has done it."""

    id: Ulid
    invoice_id: Ulid
    credit_note_id: Ulid | None = None
    customer_id: Ulid
    status: Literal["pending", "succeeded", "failed", "canceled"]
    reason: str
    actor: str
    currency: str
    amount: Numeric
    created_at: Time
    updated_at: Time
    external_id: str | None = None

    @classmethod
    def of(cls, refund: Refund) -> Self:
        """The refund on the wire."""
        return cls(
            id=refund.id,
            invoice_id=refund.invoice_id,
            credit_note_id=refund.credit_note_id,
            customer_id=refund.customer_id,
            status=refund.state.value,
            reason=refund.reason,
            actor=refund.actor,
            currency=refund.currency,
            amount=refund.amount,
            created_at=refund.created_at,
            updated_at=refund.updated_at,
            external_id=refund.external_id,
        )


class RefundPage(Answer):
    """A page of refunds."""

    data: list[RefundAnswer]
    meta: PaginatedMeta


class RePriceBody(Body):
    """The price that the rate card of a key should have had."""

    key: ResourceKey
    price: PriceBody
    unit_config: UnitConfigBody | None = None
    commitments: CommitmentsBody | None = None
    discounts: DiscountsBody | None = None

    def card(self) -> RateCard:
        """A rate card with this price."""
        document: Document = self.model_dump(mode="json", exclude_none=True)
        return read_rate_card({**document, "name": self.key})


class PlanVersionBody(Body):
    """A version of a plan: by its id, or by its key and number."""

    id: Ulid | None = None
    key: ResourceKey | None = None
    version: Annotated[int, Field(ge=1, le=LARGEST_VERSION)] | None = None

    def reference(self) -> PlanReference:
        """The version that is meant."""
        return PlanReference(self.id, self.key, self.version)


class ReRateRequest(Body):
    """The service periods that begin in [from, to) are rated again: by the prices of a version of a
    plan, by those given here, or, where both say one, by these.

    What was billed too much is corrected on the next invoice, or by credit notes now; what was billed
    too little is always on the next invoice.
    """

    from_: Annotated[Moment, Field(alias="from")]
    to: Moment
    reason: Name
    plan: PlanVersionBody | None = None
    prices: Annotated[list[RePriceBody], Field(min_length=1, max_length=MOST_LINES)] | None = None
    timing: Literal["next_invoice", "credit_note"] = "next_invoice"
    refund: StrictBool = False
    dry_run: StrictBool = False


class DifferenceAnswer(Answer):
    """A service period of a rate card: what was billed, what it comes to now, and the difference."""

    invoice_id: Ulid
    name: str
    service_period: ClosedPeriod
    currency: str
    billed: Numeric
    now: Numeric
    difference: Numeric
    credit_note: str | None = None

    @classmethod
    def of(cls, one: Difference) -> Self:
        """The difference on the wire."""
        return cls(
            invoice_id=one.invoice_id,
            name=one.name,
            service_period=ClosedPeriod.of(one.service_period),
            currency=one.currency,
            billed=one.billed,
            now=one.now,
            difference=one.amount,
            credit_note=one.credit_note,
        )


class ReRatedAnswer(Answer):
    """What came of it; `id` is absent where nothing was kept. `open` counts what is on no final
    invoice yet, and is billed by the new price."""

    id: Ulid | None = None
    differences: list[DifferenceAnswer]
    totals: dict[str, Numeric]
    credit_notes: list[CreditNoteAnswer]
    open: int

    @classmethod
    def of(cls, found: ReRated) -> Self:
        """What came of it, on the wire."""
        return cls(
            id=found.re_rating_id,
            differences=[DifferenceAnswer.of(one) for one in found.differences],
            totals=found.totals(),
            credit_notes=[CreditNoteAnswer.of(one) for one in found.credit_notes],
            open=found.open,
        )
