"""Credit applied to invoices, and given back, in the transaction that keeps them.

Which grant pays for what, and how a line shows it, the domain says. It is done under the lock of the
namespace's invoices, so that any number of runs at once use a credit once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.burn_down import burn_down, give_back
from tallyman.domain.content_id import content_id
from tallyman.domain.credit import CreditGrant
from tallyman.domain.credit_ledger import (
    CreditAccount,
    CreditEntry,
    CreditTransaction,
    TransactionType,
    available_of,
    funded,
)
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_credit import credited, demands_of, with_credit
from tallyman.domain.invoice_line import CreditApplied, InvoiceLine
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.money import EXACT, from_minor_units, total
from tallyman.store.credit_ledger import available_minor, book, consumed_minor, end
from tallyman.store.credit_selection import grants_of
from tallyman.store.customer_subjects import portions
from tallyman.store.tables import credit_entries, credit_transactions

_GONE = (InvoiceState.DELETED, InvoiceState.VOIDED)
ZERO = Decimal(0)


@dataclass
class _Purse:
    """The grants of the customers concerned, what is left of each, and what is to be booked.

    `consumed` is by invoice, billable and grant, as the ledger has it before.
    """

    grants: dict[str, CreditGrant]
    available: dict[str, Decimal]
    consumed: Mapping[tuple[str | None, str | None, str], Decimal]
    booked: list[CreditTransaction]

    def of(self, invoice: Invoice) -> list[CreditGrant]:
        """Those of the invoice's customer in its currency."""
        whose = invoice.customer.id, invoice.currency
        return [x for x in self.grants.values() if (x.customer_id, x.currency) == whose]

    def add(self, transaction: CreditTransaction) -> None:
        """Take a transaction in, to be booked."""
        self.booked.append(transaction)
        for grant_id, amount in available_of(transaction.entries).items():
            self.available[grant_id] = EXACT.add(self.available.get(grant_id, ZERO), amount)


async def apply_credit(
    connection: AsyncConnection, changes: Sequence[tuple[Invoice | None, Invoice]]
) -> list[Invoice]:
    """The invoices as they come out of (what was kept, what is to be kept), with their credit booked.

    Credit is applied when an invoice is counted. What a draft had is given back when it is counted
    anew or deleted, and what an issued one had when it is voided. What a correction gives back goes
    back when the invoice is final.
    """
    ids = {after.customer.id for _, after in changes}
    grants = {one.id: one for one in await grants_of(connection, ids)}
    if not grants:
        return [after for _, after in changes]
    purse = await _purse(connection, grants, [after for _, after in changes])
    made = []
    for before, after in changes:
        _take_effect(purse, after)
        if before is not None and (after.state in _GONE or before.lines is not after.lines):
            _undo(purse, before, after)
        if after.state in _GONE:
            made.append(after)
            continue
        if after.quantity_snapshotted_at is not None:
            if before is None or before.lines is not after.lines:
                after = _apply(purse, after)
            if after.state.is_final and (before is None or not before.state.is_final):
                after = _return(purse, after)
        made.append(after)
    await _book(connection, purse, changes[0][1].updated_at)
    return made


async def give_back_credit(connection: AsyncConnection, taken_back: Invoice) -> bool:
    """Give back what the lines of a final record say that credit paid too much, such as those of a
    credit note; whether that was anything."""
    grants = {one.id: one for one in await grants_of(connection, [taken_back.customer.id])}
    if not grants or all(line.totals.credits >= 0 for line in taken_back.lines):
        return False
    purse = await _purse(connection, grants, [taken_back])
    _return(purse, taken_back)
    await _book(connection, purse, taken_back.updated_at)
    return bool(purse.booked)


async def _book(connection: AsyncConnection, purse: _Purse, at: datetime) -> None:
    """Book it all; what was given back to a grant that is voided is voided too."""
    await book(connection, purse.booked)
    returned = {entry.grant_id for one in purse.booked for entry in one.entries}
    dead = [x for x in purse.grants.values() if x.voided_at is not None and x.id in returned]
    if dead:
        await end(connection, dead, at, CreditAccount.VOIDED)


async def _purse(
    connection: AsyncConnection, grants: dict[str, CreditGrant], invoices: Sequence[Invoice]
) -> _Purse:
    minor = await available_minor(connection, grants)
    currency_of = {one.id: one.currency for one in grants.values()}
    available = {id_: from_minor_units(amount, currency_of[id_]) for id_, amount in minor.items()}
    consumed: dict[tuple[str | None, str | None, str], int] = {}
    for some in portions(one.id for one in invoices):
        consumed |= await consumed_minor(connection, credit_transactions.c.invoice_id.in_(some))
    less = [line.billable_id for one in invoices for line in one.lines if line.totals.credits < 0]
    for some in portions(less):
        consumed |= await consumed_minor(connection, credit_entries.c.billable_id.in_(some))
    exact = {key: from_minor_units(amount, currency_of[key[2]]) for key, amount in consumed.items()}
    return _Purse(grants, available, exact, [])


def _take_effect(purse: _Purse, invoice: Invoice) -> None:
    """Book the beginning of grants that have begun since anything was booked."""
    now = invoice.updated_at
    for grant in purse.of(invoice):
        if grant.id not in purse.available and grant.voided_at is None and grant.has_begun(now):
            purse.add(funded(grant, now))


def _apply(purse: _Purse, invoice: Invoice) -> Invoice:
    """Let credit pay for the lines, as far as it goes."""
    grants, now = purse.of(invoice), invoice.updated_at
    draws = burn_down(grants, purse.available, demands_of(invoice.lines), now)
    lines = credited(invoice.lines, draws, purse.grants)
    billable_of = {line.id: line.billable_id for line in invoice.lines}
    if not draws:
        return invoice if lines == invoice.lines else with_credit(invoice, lines, now)
    entries = tuple(
        CreditEntry(
            draw.grant_id, CreditAccount.AVAILABLE, CreditAccount.CONSUMED, draw.amount,
            billable_of[draw.demand_id], draw.demand_id,
        )
        for draw in draws
    )  # fmt: skip
    purse.add(_transaction(invoice, "applied", f"Invoice {invoice.id}", entries))
    return with_credit(invoice, lines, now)


def _undo(purse: _Purse, before: Invoice, after: Invoice) -> None:
    """Give back what the invoice has used."""
    lines = {line.billable_id: line.id for line in before.lines}
    entries = tuple(
        CreditEntry(
            grant_id, CreditAccount.CONSUMED, CreditAccount.AVAILABLE, amount,
            billable_id, lines.get(billable_id or ""),
        )
        for (invoice_id, billable_id, grant_id), amount in sorted(purse.consumed.items(), key=repr)
        if invoice_id == before.id and amount > 0
    )  # fmt: skip
    if entries:
        why = "void" if after.state is InvoiceState.VOIDED else "not issued as it was"
        name = f"Given back: invoice {after.id} is {why}"
        purse.add(_transaction(after, "given back", name, entries))


def _return(purse: _Purse, invoice: Invoice) -> Invoice:
    """Give back what corrections say that credit paid too much, and no more than it paid."""
    entries: list[CreditEntry] = []
    lines: list[InvoiceLine] = []
    for line in invoice.lines:
        if line.totals.credits >= 0:
            lines.append(line)
            continue
        drawn: dict[str, Decimal] = defaultdict(Decimal)
        for (_, billable_id, grant_id), amount in purse.consumed.items():
            if billable_id == line.billable_id:
                drawn[grant_id] += amount
        back = give_back(purse.of(invoice), drawn, -line.totals.credits)
        entries += [
            CreditEntry(
                grant_id, CreditAccount.CONSUMED, CreditAccount.AVAILABLE, amount,
                line.billable_id, line.id,
            )
            for grant_id, amount in back.items()
        ]  # fmt: skip
        applied = tuple(
            CreditApplied(grant_id, -amount, purse.grants[grant_id].name)
            for grant_id, amount in back.items()
        )
        totals = line.totals.paid_by_credit(-total(back.values()) if back else ZERO)
        lines.append(replace(line, totals=totals, credits_applied=applied))
    if entries:
        name = f"Given back: corrected by invoice {invoice.id}"
        purse.add(_transaction(invoice, "corrected", name, tuple(entries)))
    if tuple(lines) == invoice.lines:
        return invoice
    return with_credit(invoice, tuple(lines), invoice.updated_at)


def _transaction(
    invoice: Invoice, what: str, name: str, entries: tuple[CreditEntry, ...]
) -> CreditTransaction:
    """What is booked of an invoice; the id comes from what it is, so that it is booked once."""
    at: datetime = invoice.quantity_snapshotted_at or invoice.updated_at
    return CreditTransaction(
        id=content_id(at, "credit", what, invoice.id, str(invoice.revision)),
        namespace=invoice.namespace,
        customer_id=invoice.customer.id,
        currency=invoice.currency,
        type=TransactionType.CONSUMED,
        name=name,
        booked_at=invoice.updated_at,
        entries=entries,
        invoice_id=invoice.id,
    )
