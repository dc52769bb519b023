"""Credit notes of final invoices: over amounts, or over what the lines are too high by.

How much there is to take back is the domain's; money that goes back is `give_back.py`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ulid import ULID

from tallyman.billing.advance import trigger
from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import Lacking, put_right
from tallyman.billing.draft import Counted
from tallyman.billing.give_back import pass_on
from tallyman.domain.access import LOCAL
from tallyman.domain.billing_profile import App
from tallyman.domain.credit_note import (
    Credit,
    CreditKind,
    CreditNote,
    CreditNoteLine,
    credit_line,
    goodwill,
)
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import Trigger
from tallyman.domain.stripe_amount import check_stripe_amount, is_stripe_amount
from tallyman.domain.stripe_operation import OperationState
from tallyman.errors import Conflict, InvalidInput, InvalidParameter
from tallyman.store.credit_notes import CREDITABLE, Asked
from tallyman.store.invoice_standing import Standing

UNPAID = ("payment_processing", "overdue", "uncollectible")


@dataclass(frozen=True)
class Order:
    """What a credit note is asked for; by which key, if it must be made once.

    With `refund` what was paid of it is given back too.
    """

    invoice_id: str
    reason: str
    by: str = LOCAL
    key: str | None = None
    refund: bool = False


async def let_off(
    books: Books, namespace: str, order: Order, credits: Sequence[Credit], now: datetime
) -> CreditNote:
    """A credit note over amounts of an invoice's lines, which later corrections leave alone.

    Raises:
        NotFound: there is no such invoice.
        InvoiceActionNotAvailable: it is not issued, or void.
        InvalidInput: a line has less left, is not the invoice's, or is credited an amount that
            Stripe, which has the invoice, cannot take.
        Conflict: the key was used for something else.
    """

    def make(standing: Standing) -> CreditNote:
        lines = goodwill(credits, standing.lines)
        if standing.invoice.app is App.STRIPE:
            for at, one in enumerate(lines):
                check_stripe_amount(f"lines[{at}].amount", one.amount, standing.invoice.currency)
        return _note(standing.invoice, order, CreditKind.GOODWILL, lines, now)

    return await _kept(books, namespace, order, CreditKind.GOODWILL, make, now)


async def credit_corrections(
    books: Books, namespace: str, order: Order, now: datetime
) -> CreditNote:
    """A credit note over what the invoice's lines are too high by, as it is known now.

    What they are too low by stays for the next invoice.

    Raises:
        NotFound: there is no such invoice.
        InvoiceActionNotAvailable: it is not issued, or void.
        InvalidInput: no line is too high.
        Conflict: the key was used for something else, or a line was corrected meanwhile.
    """
    invoice = await books.invoices.get(namespace, order.invoice_id)
    [account] = await books.accounts(namespace, [invoice.customer.id])
    watermark = await books.quantities.watermark()
    billables = {line.billable_id for line in invoice.lines}
    billed = await books.billed.touched({}, (), billables)
    lacking = await put_right(books, [account], billed, watermark, now)
    found = [line for lines in lacking.lines.values() for line in lines]
    return await credit_lines(books, account, order, found, lacking, watermark, now)


async def credit_lines(
    books: Books,
    account: Account,
    order: Order,
    corrections: Sequence[InvoiceLine],
    lacking: Lacking,
    watermark: datetime,
    now: datetime,
) -> CreditNote:
    """A credit note of corrections that were counted at the watermark: of those that give back.

    Raises:
        InvalidInput: none gives anything back.
        Conflict: a line was corrected meanwhile.
    """

    def make(standing: Standing) -> CreditNote:
        lines = creditable(standing, corrections)
        if not lines:
            reason = "no line of the invoice is too high"
            raise InvalidInput(reason, [InvalidParameter("kind", "invalid", reason)])
        note = _note(standing.invoice, order, CreditKind.CORRECTION, lines, now)
        counted = Counted(watermark, {}, lacking.metered)
        kept = [line.correction for line in lines if line.correction is not None]
        return replace(note, watermark=watermark, counting=counted.counting(account, kept))

    namespace = account.customer.namespace
    return await _kept(books, namespace, order, CreditKind.CORRECTION, make, now)


def creditable(standing: Standing, corrections: Sequence[InvoiceLine]) -> list[CreditNoteLine]:
    """The corrections that a credit note of the invoice can have; the others wait for the next invoice.

    They are more than the line that they correct, as it was corrected upwards meanwhile, bring only
    prepaid credit back, and no money, or are an amount that Stripe, which has the invoice, cannot take.
    """
    if standing.invoice.state.status not in CREDITABLE:
        return []
    lines = []
    for one in corrections:
        found, back = standing.lines.get(one.corrects or ""), -one.totals.total
        if found is None or not 0 < back <= found.left:
            continue
        if standing.invoice.app is App.STRIPE and not is_stripe_amount(back, one.currency):
            continue
        lines.append(credit_line(found.line, back, one))
    return lines


async def _kept(
    books: Books,
    namespace: str,
    order: Order,
    kind: CreditKind,
    make: Callable[[Standing], CreditNote],
    now: datetime,
) -> CreditNote:
    """The note as it is kept; an invoice of which nothing is due any more is paid."""
    asked = Asked(order.invoice_id, kind, order.reason, order.key)
    async with books.database.together():
        note = await books.credit_notes.add(namespace, asked, make)
        standing = await books.credit_notes.standing(namespace, note.invoice_id)
        await pass_on(books, note, standing.invoice, now, refund=order.refund)
        settled = standing.invoice.state.status in UNPAID and not standing.balance.due
        if settled and standing.invoice.app is not App.STRIPE:  # which says so by itself
            await trigger(books, namespace, note.invoice_id, Trigger.PAY, now, by=order.by)
    return note


async def void_note(
    books: Books,
    namespace: str,
    note_id: str,
    now: datetime,
    reason: str | None = None,
    *,
    by: str = LOCAL,
) -> CreditNote:
    """Take a credit note back; what a correction had taken back is corrected on the next invoice.

    One that is at Stripe is void once Stripe has voided it, which it does while the invoice is not
    paid. The reason is for the audit log.

    Raises:
        NotFound: there is no such note.
        Conflict: money or credit was given back for it, the invoice was settled by it, or it is at
            Stripe and the invoice was paid.
    """
    async with books.database.together():
        note = await books.credit_notes.get(namespace, note_id)
        invoice = await books.invoices.get(namespace, note.invoice_id)
        if note.voided_at is not None:
            return note
        is_there = invoice.app is App.STRIPE and not await _was_refused(books, note)
        if is_there and note.was_paid:
            raise Conflict(f"{note.number} is at Stripe, where it stays: {invoice.number} was paid")
        if not note.was_paid and invoice.paid_at is not None:
            raise Conflict(f"{invoice.number} was settled with {note.number}")
        if is_there:
            await books.credit_notes.ask_void(namespace, note.id, now, reason, by=by)
            await books.operations.cancel(namespace, note.id, now, by=by)
            return note
        return await books.credit_notes.void(namespace, note.id, now, reason, by=by)


async def _was_refused(books: Books, note: CreditNote) -> bool:
    """Whether Stripe never made it."""
    asked = await books.operations.get(note.namespace, note.id)
    return asked.state is OperationState.REFUSED and asked.stripe_id is None


def _note(
    invoice: Invoice,
    order: Order,
    kind: CreditKind,
    lines: Sequence[CreditNoteLine],
    now: datetime,
) -> CreditNote:
    return CreditNote(
        id=str(ULID.from_datetime(now)),
        namespace=invoice.namespace,
        number="",
        invoice_id=invoice.id,
        invoice_number=invoice.number,
        customer_id=invoice.customer.id,
        currency=invoice.currency,
        kind=kind,
        reason=order.reason,
        actor=order.by,
        lines=tuple(replace(one, id=one.id or str(ULID())) for one in lines),
        created_at=now,
        was_paid=invoice.paid_at is not None,
        key=order.key,
    )
