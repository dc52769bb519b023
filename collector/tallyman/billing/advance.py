"""The way of invoices through their lifecycle: one counting for many, then each as far as it goes.

What follows what is the domain's (`invoice_state.py`); what is kept, `run.py` and the actions keep.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import corrections, note_failed
from tallyman.billing.draft import count, with_lines
from tallyman.billing.gather import Owed, owed_by
from tallyman.domain.access import LOCAL
from tallyman.domain.billing_profile import App
from tallyman.domain.invoice import Invoice, ValidationIssue, act
from tallyman.domain.invoice_credit import paid_by_credit
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import InvoiceState, Trigger, following, move
from tallyman.errors import InvoiceActionNotAvailable
from tallyman.store.billing_progress import Progress

_MICROSECOND = timedelta(microseconds=1)
_UNPAID = (InvoiceState.PAYMENT_PENDING, InvoiceState.PAYMENT_AUTHORIZED)


@dataclass(frozen=True)
class Open:
    """An invoice that may go on, with its account and what its lines are for."""

    invoice: Invoice
    account: Account
    owed: tuple[Owed, ...]


def walk(invoice: Invoice, now: datetime) -> Invoice:
    """The invoice as far as it goes by itself: until it must be counted, wait, or someone must act."""
    while True:
        if invoice.state is InvoiceState.DRAFT_COLLECTING and not _is_snapshotted(invoice):
            return invoice
        facts = invoice.facts_at(now)
        if invoice.state is InvoiceState.DRAFT_VALIDATING and facts.has_critical_issues:
            return act(invoice, Trigger.FAIL, now)
        if (paid := paid_by_credit(invoice, now)) is not invoice:
            return paid
        if invoice.state in _UNPAID and _is_overdue(invoice, now):
            return act(invoice, Trigger.OVERDUE, now)
        if following(invoice.state, Trigger.ADVANCE, facts) is None:
            return invoice
        invoice = act(invoice, Trigger.ADVANCE, now)


def _is_overdue(invoice: Invoice, now: datetime) -> bool:
    return invoice.overdue_at is not None and invoice.overdue_at <= now


def _is_snapshotted(invoice: Invoice) -> bool:
    return invoice.quantity_snapshotted_at is not None


async def snapshot(
    books: Books, many: Sequence[Open], now: datetime, *, preliminary: bool = False
) -> tuple[list[Invoice], list[Progress]]:
    """Count and rate the invoices, all at one watermark, with what final invoices lack.

    A preliminary counting only shows what a draft would be: it is done again when it is collected,
    and takes no corrections.
    """
    watermark = await books.quantities.watermark()
    asked = [(one.account, owed) for one in many for owed in one.owed]
    counted = await count(books, asked, watermark)
    accounts = list({one.account.customer.id: one.account for one in many}.values())
    lacking: dict[tuple[str, str], list[InvoiceLine]] = {}
    failed: dict[tuple[str, str], list[ValidationIssue]] = {}
    replaced = [one.invoice for one in many]
    if not preliminary:
        found = await corrections(books, accounts, watermark, now, replaced)
        note_failed(found)
        lacking, failed = dict(found.lines), dict(found.failed)
        counted = replace(counted, metered={**found.metered, **counted.metered})
    left = {customer_id for customer_id, _ in failed}
    made = []
    for one in many:
        key = one.account.customer.id, one.invoice.currency
        lined = with_lines(
            one.invoice, one.account, one.owed, counted, lacking.pop(key, ()), failed.pop(key, ())
        )
        at = None if preliminary else now
        made.append(replace(lined, quantity_snapshotted_at=at))
    if preliminary:
        return made, []
    left |= {customer_id for customer_id, _ in lacking}
    return made, await _looked_at(books, accounts, left, watermark, replaced)


async def _looked_at(
    books: Books,
    accounts: Sequence[Account],
    left: Collection[str],
    watermark: datetime,
    replaced: Sequence[Invoice],
) -> list[Progress]:
    """Whose late events are all on an invoice now: not those who are left, since an invoice in
    another currency must follow, or something could not be rated.

    What came after the watermark of a draft that waits for someone is late once the draft is final.
    """
    waiting = await books.billed.counted_until(
        [one.customer.id for one in accounts], but={one.id for one in replaced}
    )
    return [
        Progress(
            subscription.id,
            account.customer.id,
            subscription.active_from,
            min(watermark, waiting.get(account.customer.id, watermark)),
        )
        for account in accounts
        if account.customer.id not in left
        for subscription in account.subscriptions
    ]


async def reopened(books: Books, invoices: Sequence[Invoice]) -> list[Open]:
    """Stored invoices with what their lines are for, as it is now; corrections are found anew."""
    opened: dict[str, Open] = {}
    for namespace in {invoice.namespace for invoice in invoices}:
        mine = [one for one in invoices if one.namespace == namespace]
        ids = {one.customer.id for one in mine}
        accounts = {one.customer.id: one for one in await books.accounts(namespace, ids)}
        for invoice in mine:
            account = accounts[invoice.customer.id]
            opened[invoice.id] = Open(invoice, account, tuple(_owed(invoice, account)))
    return [opened[invoice.id] for invoice in invoices]


def _owed(invoice: Invoice, account: Account) -> list[Owed]:
    lines = [line for line in invoice.lines if line.corrects is None]
    if not lines or invoice.invoice_at is None:
        return []
    wanted = {line.billable_id for line in lines}
    since = min(line.service_period.from_ for line in lines) - _MICROSECOND
    of = {line.subscription_id for line in lines}
    return [
        owed
        for subscription in account.subscriptions
        if subscription.id in of
        for owed in owed_by(account, subscription, invoice.invoice_at, since)
        if owed.billable.id in wanted
    ]


async def go_on(
    books: Books, many: Sequence[Open], now: datetime
) -> tuple[list[Invoice], list[Progress]]:
    """Each invoice as far as it goes by itself; those to be counted are counted together."""
    walked = [replace(one, invoice=walk(one.invoice, now)) for one in many]
    ready = [one for one in walked if one.invoice.state is InvoiceState.DRAFT_COLLECTING]
    if not ready:
        return [one.invoice for one in walked], []
    counted, progress = await snapshot(books, ready, now)
    done = {invoice.id: walk(invoice, now) for invoice in counted}
    return [done.get(one.invoice.id, one.invoice) for one in walked], progress


async def trigger(
    books: Books,
    namespace: str,
    invoice_id: str,
    action: Trigger,
    now: datetime,
    *,
    by: str = LOCAL,
    rebill: bool = False,
) -> Invoice:
    """Take an action on one invoice, and let it go on from there.

    With `rebill` what a voided invoice had is billed again; else it is forgiven.

    Raises:
        NotFound: there is no such invoice.
        InvoiceCannotAdvance: nothing follows by itself, or not yet.
        InvoiceActionNotAvailable: its state takes no such action, or someone else was first.
    """
    before = await books.invoices.get(namespace, invoice_id)
    move(before.state, action, before.facts_at(now))
    if rebill and before.app is App.STRIPE:
        # It may be paid at Stripe before it is void there, and then would be paid twice.
        raise InvoiceActionNotAvailable(
            "what is at Stripe is voided without being billed again: void it, then bill by hand"
        )
    started = before
    if action in (Trigger.SNAPSHOT_QUANTITIES, Trigger.RETRY):
        started = _uncounted(before)
    [opened] = await reopened(books, [started])
    acted = replace(opened, invoice=act(started, action, now))
    [after], progress = await go_on(books, [acted], now)
    freeing = {after.id} if rebill and after.state is InvoiceState.VOIDED else ()
    async with books.database.together():
        kept = await books.invoices.replace(
            namespace, [(before, after)], progress, by=by, action=str(action), freeing=freeing
        )
        if action is Trigger.VOID:  # within the lock that a credit note needs too
            await _refuse_credited(books, before)
    if not kept:
        raise InvoiceActionNotAvailable(f"invoice {invoice_id} was changed meanwhile; try again")
    return kept[0]


async def _refuse_credited(books: Books, invoice: Invoice) -> None:
    """What was taken back already must not be taken back again with the whole."""
    balance = (await books.credit_notes.standing(invoice.namespace, invoice.id)).balance
    if balance.credited_before or balance.credited_after:
        raise InvoiceActionNotAvailable(
            f"invoice {invoice.number} has credit notes: void those first, or credit the rest of it"
        )


def _uncounted(invoice: Invoice) -> Invoice:
    """Ready to be counted anew, if it is a draft that can be."""
    if invoice.state.status != "draft":
        return invoice
    return replace(invoice, quantity_snapshotted_at=None, validation_issues=())
