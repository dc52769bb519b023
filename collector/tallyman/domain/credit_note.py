"""Credit notes: what is taken back of the lines of a final invoice, as a record of its own.

They never take back more than the lines still have. Whether money flows back is `refund.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tallyman.domain.counting import Counting
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine, Totals
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.money import EXACT, round_to_currency, total, written
from tallyman.domain.period import Period
from tallyman.domain.rating.detailed_line import detailed_line
from tallyman.errors import InvalidInput, InvalidParameter

ZERO = Decimal(0)
_NUMBER = "CN-"


class CreditKind(StrEnum):
    """Goodwill lets amounts off, which no later correction takes back; a correction is what lines
    are too high by, counted and rated anew."""

    GOODWILL = "goodwill"
    CORRECTION = "correction"


@dataclass(frozen=True)
class Credit:
    """What is asked for of a line: an amount, or all that it still has."""

    line_id: str
    amount: Decimal | None = None


@dataclass(frozen=True)
class CreditNoteLine:
    """`amount` is what is taken back, as a positive amount of whole minor units.

    `correction` is, of a correction, the line that counts as billed from now on; its total is the
    negative amount.
    """

    id: str
    invoice_line_id: str
    billable_id: str
    name: str
    service_period: Period
    amount: Decimal
    correction: InvoiceLine | None = None


@dataclass(frozen=True)
class CreditNote:
    """A record that stays as it is, but that it may be voided.

    `was_paid` says whether the invoice was paid by then: if not, less is due of it. `key` is the
    caller's, by which it is made once. A correction keeps what it was counted by, as an invoice does.
    """

    id: str
    namespace: str
    number: str
    invoice_id: str
    invoice_number: str
    customer_id: str
    currency: str
    kind: CreditKind
    reason: str
    actor: str
    lines: tuple[CreditNoteLine, ...]
    created_at: datetime
    was_paid: bool
    key: str | None = None
    counting: Counting | None = None
    watermark: datetime | None = None
    voided_at: datetime | None = None
    external_id: str | None = None

    @property
    def total(self) -> Decimal:
        """What is taken back."""
        return total(line.amount for line in self.lines)


@dataclass(frozen=True)
class Creditable:
    """A line of a final invoice, and what was taken back of it.

    `credited` is what credit notes took of this line, `billed` all that counts as billed of the same
    thing, corrections too, and `let_off` the goodwill of all its lines.
    """

    line: InvoiceLine
    credited: Decimal = ZERO
    billed: Decimal = ZERO
    let_off: Decimal = ZERO

    @property
    def left(self) -> Decimal:
        """The most that can be taken back of it."""
        of_line = EXACT.subtract(self.line.totals.total, self.credited)
        of_all = EXACT.subtract(self.billed, self.let_off)
        return max(min(of_line, of_all), ZERO)


def goodwill(wanted: Sequence[Credit], lines: Mapping[str, Creditable]) -> list[CreditNoteLine]:
    """The lines of a credit note over these amounts, or over all that is left of every line, if none
    is named; the ids are still to be given.

    Raises:
        InvalidInput: a line is not the invoice's, is named twice, or has less left.
    """
    made = []
    wanted = wanted or [Credit(id_) for id_, line in lines.items() if line.left]
    for at, one in enumerate(wanted):
        found = lines.get(one.line_id)
        if found is None:
            raise _wrong(f"lines[{at}].line_id", "invalid", "is no line of the invoice")
        if any(other.line_id == one.line_id for other in wanted[:at]):
            raise _wrong(f"lines[{at}].line_id", "unique", "is named twice")
        amount = found.left if one.amount is None else one.amount
        check_amount(f"lines[{at}].amount", amount, found.left, found.line.currency)
        made.append(credit_line(found.line, amount))
    return made


def credit_line(
    line: InvoiceLine, amount: Decimal, correction: InvoiceLine | None = None
) -> CreditNoteLine:
    """What is taken back of a line."""
    return CreditNoteLine(
        id="" if correction is None else correction.id,
        invoice_line_id=line.id,
        billable_id=line.billable_id,
        name=line.name,
        service_period=line.service_period,
        amount=amount,
        correction=correction,
    )


def check_amount(field: str, amount: Decimal, left: Decimal, currency: str) -> None:
    """Refuse what is no amount of the currency, or more than there is.

    Raises:
        InvalidInput: names the field.
    """
    if amount <= 0 and left > 0:
        raise _wrong(field, "min", "must be more than nothing")
    if amount != round_to_currency(amount, currency):
        raise _wrong(field, "invalid", f"has more decimals than {currency}")
    if amount > left or not amount:
        raise _wrong(field, "max", f"is more than the {written(left)} {currency} that are left")


def note_number(position: int) -> str:
    """The number of a namespace's nth credit note."""
    return f"{_NUMBER}{position:06d}"


def is_note_number(number: str) -> bool:
    """Whether it is a credit note's number, and not an invoice's."""
    return number.startswith(_NUMBER)


def as_invoice(note: CreditNote, invoice: Invoice) -> Invoice:
    """The note as an invoice of negative lines, to be shown, explained and counted again like one."""
    lines = {line.id: line for line in invoice.lines}
    return replace(
        invoice,
        id=note.id,
        number=note.number,
        state=InvoiceState.ISSUED if note.voided_at is None else InvoiceState.VOIDED,
        lines=tuple(_shown(one, lines[one.invoice_line_id]) for one in note.lines),
        created_at=note.created_at,
        updated_at=note.voided_at or note.created_at,
        issued_at=note.created_at,
        quantity_snapshotted_at=note.created_at,
        watermark=note.watermark,
        counting=note.counting,
        due_at=None,
        paid_at=None,
        voided_at=note.voided_at,
        validation_issues=(),
        description=note.reason,
        external_invoicing_id=note.external_id,
        external_payment_id=None,
    )


def _shown(one: CreditNoteLine, line: InvoiceLine) -> InvoiceLine:
    if one.correction is not None:
        return one.correction
    back = EXACT.minus(one.amount)
    return replace(
        line,
        id=one.id,
        name=f"{line.name}: credit",
        totals=Totals(amount=back, total=back),
        detailed_lines=(detailed_line("credit", f"{line.name}: credit", Decimal(1), back),),
        raw_quantity=None,
        discounted_quantity=ZERO,
        invoiced_quantity=None,
        unit_price=None,
        tiers=(),
        usage=None,
        corrects=line.id,
    )


@dataclass(frozen=True)
class Balance:
    """What became of an invoice's total: all that was taken back, and given back.

    `credited_before` was taken back before it was paid, so that less was to be paid.
    """

    invoice: Invoice
    credited_before: Decimal = ZERO
    credited_after: Decimal = ZERO
    refunded: Decimal = ZERO

    @property
    def creditable(self) -> Decimal:
        """The most that further credit notes can take back of the whole invoice."""
        credited = EXACT.add(self.credited_before, self.credited_after)
        return max(EXACT.subtract(self.invoice.totals.total, credited), ZERO)

    @property
    def given_alone(self) -> Decimal:
        """What was given back beyond what credit notes say is to be given back."""
        return max(EXACT.subtract(self.refunded, self.credited_after), ZERO)

    @property
    def is_paid(self) -> bool:
        """Whether the invoice was paid."""
        return self.invoice.paid_at is not None

    @property
    def due(self) -> Decimal:
        """What is still to be paid."""
        if self.is_paid or self.invoice.voided_at is not None:
            return ZERO
        return EXACT.subtract(self.invoice.totals.total, self.credited_before)

    @property
    def refundable(self) -> Decimal:
        """What was paid and not given back."""
        if not self.is_paid:
            return ZERO
        paid = EXACT.subtract(self.invoice.totals.total, self.credited_before)
        return max(EXACT.subtract(paid, self.refunded), ZERO)


def _wrong(field: str, rule: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{field} {reason}", [InvalidParameter(field, rule, reason)])
