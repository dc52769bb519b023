"""The billing run: everything that is due becomes invoices, and every invoice goes as far as it can.

Each step is one transaction of a few hundred invoices, and finds what the steps before it left, also
those of a run that was killed. Any number of runs at once bill once: ids come from what is billed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Final, TypeVar

from tallyman.billing.advance import Open, go_on, reopened, snapshot, walk
from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import corrections
from tallyman.billing.draft import Counted, drafted, empty, with_lines
from tallyman.billing.gather import Gathered, gather
from tallyman.domain.access import LOCAL
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.money import EXACT
from tallyman.store.billing_progress import Progress

CUSTOMERS_AT_ONCE: Final = 2_000  # counted together
INVOICES_AT_ONCE: Final = 500  # kept together
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Billed:
    """An invoice that a run made or moved, in short."""

    id: str
    number: str
    customer_key: str
    state: InvoiceState
    currency: str
    total: Decimal
    lines: int
    corrections: int
    issues: tuple[str, ...]


@dataclass
class Outcome:
    """What a run did, or in a dry run would do.

    `left` is how many invoices someone else was first with.
    """

    invoices: dict[str, Billed] = field(default_factory=dict)
    left: int = 0

    def add(self, invoices: Iterable[Invoice]) -> None:
        """Take these in, as they are now."""
        for one in invoices:
            self.invoices[one.id] = _in_short(one)

    @property
    def failed(self) -> list[Billed]:
        """Those that wait for someone to mend something."""
        return [one for one in self.invoices.values() if one.state.is_failed]

    def totals(self) -> dict[str, Decimal]:
        """The sum of the invoices by currency."""
        sums: dict[str, Decimal] = {}
        for one in self.invoices.values():
            sums[one.currency] = EXACT.add(sums.get(one.currency, Decimal(0)), one.total)
        return sums

    def by_status(self) -> Counter[str]:
        """How many are in each status."""
        return Counter(one.state.status for one in self.invoices.values())


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
    lone, also_looked_at = await _corrected_alone(books, accounts, gathered, order.now)
    whose = _by_customer([*progress, *looked_at, *also_looked_at])
    fresh = [*made, *lone]
    if order.dry_run:
        outcome.add(_without(fresh, shown))
        return
    # With a customer's progress all of its invoices are kept: whoever goes on looks no further back.
    for some in _whole_customers(fresh):
        mine = [x for id_ in {one.customer.id for one in some} for x in whose.pop(id_, [])]
        kept = await books.invoices.add(namespace, some, mine, by=order.by)
        outcome.left += len(some) - len(kept)
        outcome.add(kept)
    await books.invoices.add(namespace, [], [one for rest in whose.values() for one in rest])


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


async def _corrected_alone(
    books: Books, accounts: Sequence[Account], gathered: Sequence[Gathered], now: datetime
) -> tuple[list[Invoice], list[Progress]]:
    """Invoices of corrections alone, in currencies in which a customer will owe nothing new.

    Most are of customers who are served no more; others went on in another currency.
    """
    billed = {(one.account.customer.id, one.currency) for one in gathered}
    ended = {
        one.customer.id: {
            currency
            for currency in _ended_currencies(one, now)
            if (one.customer.id, currency) not in billed
        }
        for one in accounts
    }
    over = [one for one in accounts if ended[one.customer.id]]
    until = await books.billed.final_until(one.customer.id for one in over)
    over = [one for one in over if one.customer.id in until]
    if not over:
        return [], []
    watermark = await books.quantities.watermark()
    lacking = await corrections(books, over, watermark, now)
    by_id = {one.customer.id: one for one in over}
    found = {key: lines for key, lines in lacking.lines.items() if key[1] in ended[key[0]]}
    at_of = {key: min(until[key[0]], _left_at(by_id[key[0]], key[1])) for key in found}
    versions = await books.invoices.versions({(*key, at) for key, at in at_of.items()})
    counted = Counted(watermark, {}, lacking.metered)
    made = []
    for (id_, currency), lines in found.items():
        account, at = by_id[id_], at_of[id_, currency]
        version = versions.get((id_, currency, at), 0) + 1
        blank = empty(account, currency, at, lines[0].service_period, version, now)
        lined = with_lines(blank, account, [], counted, lines)
        made.append(walk(replace(lined, quantity_snapshotted_at=now), now))
    waiting = await books.billed.counted_until(by_id)
    looked_at = [
        Progress(x.id, id_, x.active_from, min(watermark, waiting.get(id_, watermark)))
        for id_, one in by_id.items()
        if ended[id_] == {x.currency for x in one.subscriptions}
        for x in one.subscriptions
    ]
    return made, looked_at


def _ended_currencies(account: Account, now: datetime) -> set[str]:
    """Those in which no subscription of the customer will make anything due any more."""
    going = {
        one.currency
        for one in account.subscriptions
        if one.active_to is None or now < one.active_to
    }
    return {one.currency for one in account.subscriptions} - going


def _left_at(account: Account, currency: str) -> datetime:
    """The end of the last subscription in a currency in which all of the customer's are over."""
    return max(
        one.active_to
        for one in account.subscriptions
        if one.currency == currency and one.active_to is not None
    )


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


def _in_short(one: Invoice) -> Billed:
    issues = tuple(issue.code for issue in one.validation_issues)
    if one.state.is_failed:
        _log.warning("invoice %s is %s: %s", one.id, one.state, ", ".join(issues))
    return Billed(
        id=one.id,
        number=one.number,
        customer_key=one.customer.key,
        state=one.state,
        currency=one.currency,
        total=one.totals.total,
        lines=len(one.lines),
        corrections=sum(line.corrects is not None for line in one.lines),
        issues=issues,
    )


def _by_customer(progress: Sequence[Progress]) -> dict[str, list[Progress]]:
    found: dict[str, list[Progress]] = {}
    for one in progress:
        found.setdefault(one.customer_id, []).append(one)
    return found


def _portions(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (values[at : at + most] for at in range(0, len(values), most))
