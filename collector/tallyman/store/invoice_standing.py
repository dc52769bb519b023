"""What is left of an invoice and of each of its lines, within a transaction.

Nothing is taken back here: see `credit_notes.py` and `refunds.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import and_, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.credit_note import Balance, Creditable, CreditNote
from tallyman.domain.invoice import Invoice
from tallyman.domain.money import EXACT, split, total
from tallyman.domain.refund import RefundState
from tallyman.errors import NotFound
from tallyman.store.billed_lines import live_lines
from tallyman.store.credit_note_selection import select_notes
from tallyman.store.customer_subjects import portions
from tallyman.store.invoice_selection import select_invoices
from tallyman.store.tables import credit_note_lines, credit_notes, invoice_lines, invoices, refunds

REFUND_COUNTS = refunds.c.state.in_([state.value for state in RefundState if state.counts])


@dataclass(frozen=True)
class Standing:
    """An invoice, what became of its total, and what is left of each of its lines, by id."""

    balance: Balance
    lines: Mapping[str, Creditable]

    @property
    def invoice(self) -> Invoice:
        """The invoice."""
        return self.balance.invoice


async def standing_of(connection: AsyncConnection, namespace: str, invoice_id: str) -> Standing:
    """The invoice, by id or number, and what is left of it.

    Raises:
        NotFound: there is no such invoice.
    """
    named = (invoices.c.id == invoice_id) | (invoices.c.number == invoice_id)
    found = await select_invoices(connection, and_(invoices.c.namespace == namespace, named), (), 1)
    if not found:
        raise NotFound(f"no invoice has the id or number {invoice_id}")
    [invoice] = found
    notes = await select_notes(
        connection,
        and_(credit_notes.c.invoice_id == invoice.id, credit_notes.c.voided_at.is_(None)),
    )
    given = await connection.execute(
        select(refunds.c.amount).where(refunds.c.invoice_id == invoice.id, REFUND_COUNTS)
    )
    balance = Balance(
        invoice,
        total(x.total for x in notes if not x.was_paid),
        total(x.total for x in notes if x.was_paid),
        total(Decimal(row.amount) for row in given),
    )
    return Standing(balance, await _creditable(connection, invoice, notes))


async def _creditable(
    connection: AsyncConnection, invoice: Invoice, notes: Sequence[CreditNote]
) -> dict[str, Creditable]:
    credited: dict[str, list[Decimal]] = defaultdict(list)
    for line in (line for note in notes for line in note.lines):
        credited[line.invoice_line_id].append(line.amount)
    billables = {line.billable_id for line in invoice.lines}
    billed: dict[str, list[Decimal]] = defaultdict(list)
    for one in await live_lines(connection, billables):
        billed[one.line.billable_id].append(one.line.totals.total)
    let_off = await let_off_of(connection, billables)
    return {
        line.id: Creditable(
            line,
            total(credited[line.id]),
            total(billed[line.billable_id]),
            let_off.get(line.billable_id, Decimal(0)),
        )
        for line in invoice.lines
    }


async def let_off_of(
    connection: AsyncConnection, billable_ids: Iterable[str]
) -> dict[str, Decimal]:
    """The goodwill on the lines of each billable, which corrections never give back again."""
    amounts: dict[str, list[Decimal]] = defaultdict(list)
    for some in portions(billable_ids):
        rows = await connection.execute(
            select(credit_note_lines.c.billable_id, credit_note_lines.c.amount).where(
                credit_note_lines.c.billable_id.in_(some),
                credit_note_lines.c.freed.is_(False),
                credit_note_lines.c.version.is_(None),
            )
        )
        for row in rows:
            amounts[row.billable_id].append(Decimal(row.amount))
    return {id_: total(some) for id_, some in amounts.items()}


async def given_alone(
    connection: AsyncConnection, billable_ids: Iterable[str]
) -> dict[str, Decimal]:
    """What refunds without a credit note gave back of each billable: corrections never give it again.

    A refund is of an invoice, so it is shared out among what its lines have left.
    """
    wanted = set(billable_ids)
    of: dict[str, str] = {}
    for some in portions(wanted):
        rows = await connection.execute(
            select(refunds.c.invoice_id, refunds.c.namespace)
            .distinct()
            .join(invoice_lines, invoice_lines.c.invoice_id == refunds.c.invoice_id)
            .where(
                invoice_lines.c.billable_id.in_(some),
                not_(invoice_lines.c.freed),
                refunds.c.credit_note_id.is_(None),
                REFUND_COUNTS,
            )
        )
        of |= {row.invoice_id: row.namespace for row in rows}
    amounts: dict[str, Decimal] = {}
    for invoice_id, namespace in of.items():
        standing = await standing_of(connection, namespace, invoice_id)
        lines = list(standing.lines.values())
        alone, currency = standing.balance.given_alone, standing.invoice.currency
        for one, share in zip(lines, split(alone, [x.left for x in lines], currency), strict=True):
            id_ = one.line.billable_id
            if id_ in wanted:
                amounts[id_] = EXACT.add(amounts.get(id_, Decimal(0)), share)
    return amounts
