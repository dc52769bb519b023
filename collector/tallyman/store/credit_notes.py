"""Credit notes as they are kept: numbered without a gap, none ever deleted.

How much may be taken back is the domain's (`credit_note.py`), held here under the namespace's lock, so
that two at once never take more than there is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.credit_note import (
    CreditKind,
    CreditNote,
    as_invoice,
    check_amount,
    note_number,
)
from tallyman.domain.invoice import Invoice
from tallyman.domain.money import EXACT
from tallyman.errors import Conflict, InvoiceActionNotAvailable
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.billed_lines import live_lines
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.credit_booking import give_back_credit
from tallyman.store.credit_note_rows import note_line_values, note_values
from tallyman.store.credit_note_selection import note_in, select_notes
from tallyman.store.database import Database
from tallyman.store.invoice_numbers import lock_numbers
from tallyman.store.invoice_standing import (
    REFUND_COUNTS,
    Standing,
    given_alone,
    let_off_of,
    standing_of,
)
from tallyman.store.numbered_page import count_of, in_order
from tallyman.store.tables import (
    credit_note_lines,
    credit_notes,
    credit_transactions,
    refunds,
)

CREDITABLE = ("issued", "payment_processing", "overdue", "paid", "uncollectible")


@dataclass(frozen=True)
class Asked:
    """What a credit note is asked for, and by what key, so that it is made once."""

    invoice_id: str
    kind: CreditKind
    reason: str
    key: str | None = None


class CreditNoteStore:
    """The credit notes of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, namespace: str, asked: Asked, make: Callable[[Standing], CreditNote]
    ) -> CreditNote:
        """Keep what is made of the invoice as it stands now, with the next number.

        Of a key that was used before for the same, the note that was made then.

        Raises:
            NotFound: there is no such invoice.
            InvoiceActionNotAvailable: it is not issued, or void.
            InvalidInput: the note takes back more than the invoice has.
            Conflict: the key was used for something else, or a line was corrected meanwhile.
        """
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            standing = await standing_of(connection, namespace, asked.invoice_id)
            known = await _of_key(connection, standing.invoice, asked)
            if known is not None:
                return known
            if standing.invoice.state.status not in CREDITABLE:
                raise InvoiceActionNotAvailable(
                    f"an invoice in {standing.invoice.state} has nothing to take back"
                )
            made = make(standing)
            check_amount("lines", made.total, standing.balance.creditable, made.currency)
            await _check_versions(connection, made)
            mine = credit_notes.c.namespace == namespace
            given = await connection.execute(select(func.count()).where(mine))
            kept = replace(made, number=note_number(given.scalar_one() + 1))
            await connection.execute(credit_notes.insert().values(note_values(kept)))
            await connection.execute(credit_note_lines.insert(), note_line_values(kept))
            await give_back_credit(connection, as_invoice(kept, standing.invoice))
            await record_document(connection, _audited(kept, "created", kept.actor))
            return kept

    async def void(
        self,
        namespace: str,
        note_id: str,
        at: datetime,
        reason: str | None = None,
        *,
        by: str = LOCAL,
    ) -> CreditNote:
        """Take a credit note back: its lines count no more, and it stays to be read.

        The reason is kept in the audit log.

        Raises:
            NotFound: there is no such note.
            Conflict: money was given back for it.
        """
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            before = await note_in(connection, namespace, note_id)
            if before.voided_at is not None:
                return before
            await _check_voidable(connection, before)
            after = replace(before, voided_at=at)
            mine = credit_notes.c.id == before.id
            await connection.execute(update(credit_notes).where(mine).values(voided_at=at))
            freed = credit_note_lines.c.credit_note_id == before.id
            await connection.execute(update(credit_note_lines).where(freed).values(freed=True))
            await record_document(connection, _audited(after, "voided", by, reason))
            return after

    async def ask_void(
        self, namespace: str, note_id: str, at: datetime, reason: str | None, *, by: str
    ) -> None:
        """Take down that a credit note is to be void, where that is decided elsewhere.

        Raises:
            NotFound: there is no such note.
            Conflict: money was given back for it.
        """
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            note = await note_in(connection, namespace, note_id)
            await _check_voidable(connection, note)
            asked = _audited(note, "void_asked", by)
            said = (asked.after or {}) | {"void_reason": reason}
            await record_document(connection, replace(asked, at=at, after=said))

    async def name_elsewhere(self, note_id: str, external_id: str) -> None:
        """Keep what the note is called where payments are collected."""
        mine = credit_notes.c.id == note_id
        async with self._database.writing() as connection:
            statement = update(credit_notes).where(mine).values(external_id=external_id)
            await connection.execute(statement)

    async def get(self, namespace: str, note_id: str) -> CreditNote:
        """The credit note with this id or number.

        Raises:
            NotFound: there is none.
        """
        async with self._database.reading() as connection:
            return await note_in(connection, namespace, note_id)

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[CreditNote], int]:
        """One page, and how many there are on all pages."""
        wanted = and_(
            credit_notes.c.namespace == namespace,
            *(condition_of(credit_notes.c[one.column], one) for one in where),
        )
        by = in_order(credit_notes.c[order_by], credit_notes.c.id, descending=descending)
        async with self._database.reading() as connection:
            every = await count_of(connection, credit_notes, wanted)
            return await select_notes(connection, wanted, by, limit, offset), every

    async def standing(self, namespace: str, invoice_id: str) -> Standing:
        """The invoice, by id or number, and what is left of it.

        Raises:
            NotFound: there is no such invoice.
        """
        async with self._database.reading() as connection:
            return await standing_of(connection, namespace, invoice_id)

    async def let_off(self, billable_ids: Iterable[str]) -> dict[str, Decimal]:
        """The goodwill on the lines of each billable, and what was given back of them without a
        credit note: corrections never give it back again."""
        billables = set(billable_ids)
        async with self._database.reading() as connection:
            found = await let_off_of(connection, billables)
            for id_, amount in (await given_alone(connection, billables)).items():
                found[id_] = EXACT.add(found.get(id_, Decimal(0)), amount)
            return found


async def _check_voidable(connection: AsyncConnection, note: CreditNote) -> None:
    """Refuse to void what money or credit was given back for."""
    refunded = await connection.execute(
        select(refunds.c.id).where(refunds.c.credit_note_id == note.id, REFUND_COUNTS)
    )
    if refunded.first() is not None:
        raise Conflict(f"money was given back for {note.number}")
    gave = select(credit_transactions.c.id).where(credit_transactions.c.invoice_id == note.id)
    if (await connection.execute(gave)).first() is not None:
        raise Conflict(f"credit was given back for {note.number}")


async def _check_versions(connection: AsyncConnection, made: CreditNote) -> None:
    """Refuse corrections of what was corrected by someone else since they were counted."""
    corrections = [line.correction for line in made.lines if line.correction is not None]
    taken = {
        (one.line.billable_id, one.line.version)
        for one in await live_lines(connection, {line.billable_id for line in corrections})
    }
    if any((line.billable_id, line.version) in taken for line in corrections):
        raise Conflict("a line was corrected meanwhile; try again")


async def _of_key(connection: AsyncConnection, invoice: Invoice, asked: Asked) -> CreditNote | None:
    if asked.key is None:
        return None
    mine = and_(credit_notes.c.namespace == invoice.namespace, credit_notes.c.key == asked.key)
    found = await select_notes(connection, mine)
    if not found:
        return None
    [known] = found
    if (known.invoice_id, known.kind, known.reason) != (invoice.id, asked.kind, asked.reason):
        raise Conflict(f"the key {asked.key} was used for another credit note, {known.number}")
    return known


def _audited(note: CreditNote, action: str, by: str, void_reason: str | None = None) -> AuditEntry:
    said = {
        "number": note.number,
        "invoice": note.invoice_number,
        "kind": note.kind.value,
        "reason": note.reason,
        "total": note.total,
        "currency": note.currency,
    }
    voids = action == "voided"
    voided: dict[str, object] = {"voided_at": note.voided_at, "void_reason": void_reason}
    return AuditEntry(
        namespace=note.namespace,
        at=note.voided_at if voids and note.voided_at is not None else note.created_at,
        actor=by,
        action=action,
        entity="credit_note",
        entity_id=note.id,
        before=said if voids else None,
        after=said | (voided if voids else {}),
    )
