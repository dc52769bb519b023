"""The billing run: everything that is due becomes invoices, and every invoice goes as far as it can.

Each step is one transaction of a few hundred invoices, and finds what the steps before it left, also
those of a run that was killed. Any number of runs at once bill once: ids come from what is billed.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Final, TypeVar

from tallyman.billing.advance import Open, go_on, reopened, snapshot, walk
from tallyman.billing.books import Account, Books
from tallyman.billing.credit_balance import turn, turn_others
from tallyman.billing.credit_shown import paid_as_of_now
from tallyman.billing.draft import drafted
from tallyman.billing.gather import Gathered, gather
from tallyman.billing.lone_corrections import corrected_alone
from tallyman.billing.outcome import Outcome
from tallyman.domain.access import LOCAL
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.store.billing_progress import Progress

CUSTOMERS_AT_ONCE: Final = 2_000  # counted together
INVOICES_AT_ONCE: Final = 500  # kept together
T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """What a run is to do, and how it says how far it is: (done, all) customers.

    With `only_due` it does not look at customers of whom nothing new can be due: then nobody looks
    for late events of those who have left.
    """

    now: datetime
    customer_ids: Collection[str] | None = None
    dry_run: bool = False
    only_due: bool = False
    by: str = LOCAL
    report: Callable[[int, int], None] = lambda _done, _all: None


async def run(books: Books, namespace: str, order: Order) -> Outcome:
    """Bill everything of the namespace that is due at `order.now`; at once a second time, nothing."""
    outcome = Outcome()
    shown = await _advance_waking(books, namespace, order, outcome)
    customer_ids = await _customers(books, namespace, order)
    done = 0
    for some in _portions(customer_ids, CUSTOMERS_AT_ONCE):
        accounts = await books.accounts(namespace, some)
        await _bill(books, namespace, accounts, order, outcome, shown)
        done += len(some)
        order.report(done, len(customer_ids))
    if not (order.dry_run or order.only_due) and order.customer_ids is None:
        await turn_others(books, namespace, customer_ids, order.now)
    return outcome


async def _customers(books: Books, namespace: str, order: Order) -> list[str]:
    """Whoever has or had a subscription, in the order that their events are stored in."""
    ids = await books.billed.customers(namespace, order.now if order.only_due else None)
    if order.customer_ids is not None:
        ids = [id_ for id_ in ids if id_ in order.customer_ids]
    customers = await books.customers.with_ids(namespace, ids)
    return [one.id for one in sorted(customers, key=lambda one: (one.subject_keys[:1], one.id))]


async def _bill(
    books: Books,
    namespace: str,
    accounts: Sequence[Account],
    order: Order,
    outcome: Outcome,
    shown: Collection[str],
) -> None:
    """New invoices of what is due, and of corrections where nothing else will ever be due."""
    gathered, progress = await gather(books, accounts, order.now)
    made, looked_at = await _made(books, gathered, order.now)
    lone = await corrected_alone(books, accounts, gathered, order.now)
    outcome.not_corrected += lone.failed
    whose = _by_customer([*progress, *looked_at, *lone.progress])
    fresh = [*made, *lone.invoices]
    if order.dry_run:
        outcome.add(await paid_as_of_now(books, list(_without(fresh, shown)), order.now))
        return
    # With a customer's progress all of its invoices are kept: whoever goes on looks no further back.
    for some in _whole_customers(fresh):
        mine = [x for id_ in {one.customer.id for one in some} for x in whose.pop(id_, [])]
        kept = await books.invoices.add(namespace, some, mine, by=order.by)
        outcome.left += len(some) - len(kept)
        outcome.add(kept)
    await books.invoices.add(namespace, [], [one for rest in whose.values() for one in rest])
    await turn(books, accounts, order.now)


def _whole_customers(invoices: Sequence[Invoice]) -> Iterator[list[Invoice]]:
    """In portions, each with all of its customers' invoices."""
    portion: list[Invoice] = []
    by_customer = sorted(invoices, key=lambda one: (one.customer.id, one.id))
    for _, some in groupby(by_customer, key=lambda one: one.customer.id):
        portion += some
        if len(portion) >= INVOICES_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


async def _made(
    books: Books, gathered: Sequence[Gathered], now: datetime
) -> tuple[list[Invoice], list[Progress]]:
    """The invoices of what is due, counted, each as far as it goes by itself."""
    if not gathered:
        return [], []
    keys = {(one.account.customer.id, one.currency, one.invoice_at) for one in gathered}
    versions = await books.invoices.versions(keys)
    opened = []
    for one in gathered:
        version = versions.get((one.account.customer.id, one.currency, one.invoice_at), 0) + 1
        invoice = walk(drafted(one, version, now), now)
        opened.append(Open(invoice, one.account, one.owed))
        await asyncio.sleep(0)  # a server goes on answering meanwhile
    waiting = [one for one in opened if one.invoice.state is not InvoiceState.DRAFT_COLLECTING]
    ready = [one for one in opened if one.invoice.state is InvoiceState.DRAFT_COLLECTING]
    shown, _ = await snapshot(books, waiting, now, preliminary=True) if waiting else ([], [])
    counted, looked_at = await snapshot(books, ready, now) if ready else ([], [])
    return [*shown, *(walk(one, now) for one in counted)], looked_at


async def _advance_waking(books: Books, namespace: str, order: Order, outcome: Outcome) -> set[str]:
    """What was left waiting, by an earlier run or on purpose, and need wait no longer.

    A dry run keeps nothing; returned are the corrections that it has shown.
    """
    after = ""
    shown: set[str] = set()
    while True:
        waking = await books.invoices.waking(
            namespace,
            order.now,
            customer_ids=order.customer_ids,
            after=after,
            limit=INVOICES_AT_ONCE,
        )
        if not waking:
            return shown
        after = waking[-1].id
        moved, progress = await go_on(books, await reopened(books, waking), order.now)
        pairs = [
            (before, now_) for before, now_ in zip(waking, moved, strict=True) if before != now_
        ]
        if order.dry_run:
            moved_on = [now_ for _, now_ in pairs]
            outcome.add(moved_on)
            shown |= {line.id for one in moved_on for line in one.lines if line.corrects}
            continue
        kept = await books.invoices.replace(namespace, pairs, progress, by=order.by)
        outcome.left += len(pairs) - len(kept)
        outcome.add(kept)


def _without(invoices: Sequence[Invoice], shown: Collection[str]) -> Iterator[Invoice]:
    """The invoices without the lines shown already, which a real run would not find any more."""
    for one in invoices:
        left = tuple(line for line in one.lines if line.id not in shown)
        if left:
            yield replace(one, lines=left)


def _by_customer(progress: Sequence[Progress]) -> dict[str, list[Progress]]:
    found: dict[str, list[Progress]] = {}
    for one in progress:
        found.setdefault(one.customer_id, []).append(one)
    return found


def _portions(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (values[at : at + most] for at in range(0, len(values), most))
