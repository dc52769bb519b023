"""Money given back: what Stripe is asked for, in the transaction of the record, and what it says then.

Where no payment app collects, a refund says what was given back elsewhere. How Stripe is asked, once,
is `payments/`'s.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Final

from tallyman.billing.books import Books
from tallyman.domain.billing_profile import App
from tallyman.domain.content_id import content_id
from tallyman.domain.credit_note import CreditNote
from tallyman.domain.invoice import Invoice
from tallyman.domain.period import EPOCH
from tallyman.domain.refund import Refund, RefundState
from tallyman.domain.stripe_amount import check_stripe_amount
from tallyman.domain.stripe_operation import (
    OperationKind,
    OperationLine,
    OperationState,
    Returned,
    StripeOperation,
)
from tallyman.errors import Conflict
from tallyman.store.refunds import RefundAsked
from tallyman.store.stripe_operations import Heard

_log = logging.getLogger(__name__)

BY: Final = "stripe"
_STATES: Final = {
    OperationState.SUCCEEDED: RefundState.SUCCEEDED,
    OperationState.FAILED: RefundState.FAILED,
    OperationState.REFUSED: RefundState.FAILED,
    OperationState.CANCELED: RefundState.CANCELED,
}


async def refund(books: Books, namespace: str, asked: RefundAsked, now: datetime) -> Refund:
    """Give back some of what was paid for an invoice.

    Raises:
        NotFound: there is no such invoice or credit note.
        InvalidInput: it is more than was paid, or than the credit note took back, or an amount that
            Stripe cannot take.
        Conflict: the key was used for something else.
    """
    async with books.database.together():
        invoice = await books.invoices.get(namespace, asked.invoice_id)
        at_stripe = invoice.app is App.STRIPE
        state = RefundState.PENDING if at_stripe else RefundState.SUCCEEDED
        made = await books.refunds.add(namespace, asked, state, now)
        if at_stripe:
            check_stripe_amount("amount", made.amount, made.currency)
            line = OperationLine(made.reason, made.amount)
            await _ask(books, made.id, OperationKind.REFUND, invoice, (line,), made.created_at)
    return made


async def pass_on(
    books: Books, note: CreditNote, invoice: Invoice, now: datetime, *, refund: bool
) -> None:
    """Let a credit note be made at Stripe too, and give back what was paid of it, if that is wanted."""
    at_stripe = invoice.app is App.STRIPE
    refunded = refund and note.was_paid
    if refunded:
        asked = RefundAsked(
            note.invoice_id, note.reason, note.actor, note.total, note.id, _refund_of(note.id)
        )
        state = RefundState.PENDING if at_stripe else RefundState.SUCCEEDED
        await books.refunds.add(note.namespace, asked, state, now)
    if at_stripe:
        lines = tuple(OperationLine(line.name, line.amount) for line in note.lines)
        returned = Returned.REFUND if refunded else Returned.ELSEWHERE
        await _ask(
            books, note.id, OperationKind.CREDIT_NOTE, invoice, lines, note.created_at, returned
        )


def hearers(books: Books) -> Mapping[OperationKind, Heard]:
    """What follows here from what became of a credit note or refund at Stripe."""
    return {
        OperationKind.CREDIT_NOTE: partial(_heard_note, books),
        OperationKind.REFUND: partial(_heard_refund, books),
    }


async def _heard_note(books: Books, operation: StripeOperation) -> None:
    now = operation.updated_at
    if operation.stripe_id is not None:
        await books.credit_notes.name_elsewhere(operation.id, operation.stripe_id)
    if now is None:
        return
    given = await books.refunds.of_key(operation.namespace, _refund_of(operation.id))
    if given is not None:
        await _move(books, given, operation, now)
    if operation.state is OperationState.CANCELED:
        try:
            await books.credit_notes.void(operation.namespace, operation.id, now, by=BY)
        except Conflict as err:
            _log.error("credit note %s was voided at Stripe and stands here: %s", operation.id, err)


async def _heard_refund(books: Books, operation: StripeOperation) -> None:
    given = await books.refunds.get(operation.namespace, operation.id)
    if operation.updated_at is not None:
        await _move(books, given, operation, operation.updated_at)


async def _move(books: Books, given: Refund, operation: StripeOperation, now: datetime) -> None:
    state = _STATES.get(operation.state, RefundState.PENDING)
    is_note = operation.kind is OperationKind.CREDIT_NOTE
    at_stripe = operation.payment_id if is_note else operation.stripe_id
    await books.refunds.move(given, state, now, external_id=at_stripe, by=BY)


async def _ask(
    books: Books,
    id_: str,
    kind: OperationKind,
    invoice: Invoice,
    lines: tuple[OperationLine, ...],
    now: datetime,
    returned: Returned = Returned.REFUND,
) -> None:
    await books.operations.ask(
        StripeOperation(
            id=id_,
            namespace=invoice.namespace,
            kind=kind,
            customer_id=invoice.customer.id,
            currency=invoice.currency,
            lines=lines,
            invoice_id=invoice.id,
            returned=returned,
        ),
        now,
    )


def _refund_of(note_id: str) -> str:
    """The key of the refund that comes with a credit note."""
    return content_id(EPOCH, "refund", note_id)
