"""Keeps every entitlement's usage counted, so that a request only looks it up.

What a customer may do with it is `entitlement_account.py`'s; this is when what is counted, and how
old the counts are. They are a projection of the stores: any process has its own, and builds it anew.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final, TypeVar

from tallyman import metrics
from tallyman.billing.entitlement_account import Account, Part, Wanted
from tallyman.domain.counting import Metered
from tallyman.domain.entitlement_period import NOTHING
from tallyman.errors import Unavailable
from tallyman.store.entitlement_definitions import Change, EntitlementDefinitions
from tallyman.store.entitlement_sql import Stored
from tallyman.store.entitlement_usage import EntitlementUsage
from tallyman.store.turns import asked_by

T = TypeVar("T")
log = logging.getLogger("tallyman")

# A row may be seen so long after the time it bears: an insert takes time, clocks differ, and a
# transaction may write many changes before it commits.
SEEN_WITHIN: Final = timedelta(seconds=30)
ALL_ANEW_AFTER: Final = timedelta(minutes=5)
CUSTOMERS_AT_ONCE: Final = 200
BUILT_WITHIN_SECONDS: Final = 5  # later, requests are answered 503 until they are


class EntitlementCounters:
    """The entitlements of every customer, with their counts.

    `interval_seconds` is the pause between two looks at what is new.
    """

    def __init__(
        self,
        definitions: EntitlementDefinitions,
        usage: EntitlementUsage,
        clock: Callable[[], datetime],
        interval_seconds: float,
    ) -> None:
        self._definitions = definitions
        self._usage = usage
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._one_at_a_time = asyncio.Lock()
        self._tried = asyncio.Event()
        self._accounts: dict[tuple[str, str], Account] = {}  # by namespace and customer id
        self._names: dict[tuple[str, str], Account] = {}  # and by id or key
        self._owners: dict[tuple[str, str], Account] = {}  # and by subject, as of now
        self._paying: dict[tuple[str, str], dict[str, Account]] = {}  # or ever
        self._counted: dict[str, dict[str, Metered]] = {}  # by namespace and feature id
        self._feature_keys: dict[str, frozenset[str]] = {}  # by namespace
        self._stored: dict[tuple[str, str, str, datetime], int] = {}
        self._stored_since: datetime | None = None
        self._changes: set[str] = set()
        self._frozen: dict[str, datetime] = {}  # what time it is in sandboxes, by namespace
        self._all_read_at: datetime | None = None
        self._behind: dict[str, datetime | None] = {}  # when namespaces were counted that fail now
        self.counted_at: datetime | None = None  # all others

    def counted(self, namespace: str) -> datetime | None:
        """When the namespace was counted: everything stored before that is in its counts."""
        return self._behind.get(namespace, self.counted_at)

    def find(self, namespace: str, name: str) -> Account | None:
        """The account of the customer with this id, key or subject, as of now."""
        account = self._names.get((namespace, name)) or self._owners.get((namespace, name))
        if account is not None:
            account.turn(self._now_in(namespace, self._clock()))
        return account

    def feature_keys(self, namespace: str) -> Collection[str]:
        """Those of the features of the namespace."""
        return self._feature_keys.get(namespace, frozenset())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the counts while the block runs; it begins when they are there, if that is soon."""
        task = asyncio.create_task(self._run())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), BUILT_WITHIN_SECONDS)
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        """Refresh for ever, at most half of the time; what fails is tried again."""
        while True:
            began = time.monotonic()
            try:
                await self.refresh()
            except Unavailable as err:
                log.warning("entitlements are not counted: %s", err)
            except Exception:
                log.exception("entitlements are not counted")
            self._tried.set()
            await asyncio.sleep(max(self._interval_seconds, time.monotonic() - began))

    async def refresh(self) -> None:
        """Bring every count up to date; a namespace that cannot be counted keeps no other waiting.

        Raises:
            Unavailable: a store does not answer.
        """
        async with self._one_at_a_time:
            began = self._clock()
            with metrics.ENTITLEMENT_REFRESH_SECONDS.time(), asked_by(None):
                new = await self._new_usage()
                self._mark(new)  # also where what follows fails, since it is new only once
                behind = await self._read_changes(began)
                self._mark(new)
                due: dict[str, list[Account]] = {}
                for (namespace, _), one in self._accounts.items():
                    if one.turn(self._now_in(namespace, began)) or one.is_dirty:
                        due.setdefault(namespace, []).append(one)
                behind |= await self._each(due, lambda one, some: self._count(one, some, began))
            self._behind = {one: self._behind.get(one, self.counted_at) for one in behind}
            self.counted_at = began
            if not behind:
                metrics.ENTITLEMENTS_COUNTED_AT.set(began.timestamp())

    async def catch_up(self, namespace: str) -> None:
        """Take in what was changed of customers, subscriptions and features, and count that.

        Raises:
            Unavailable: a store does not answer.
        """
        async with self._one_at_a_time:
            with asked_by(None):  # others wait for the lock
                behind = await self._read_changes(self._clock())
            self._behind |= dict.fromkeys(behind - self._behind.keys(), self.counted_at)
        if namespace in behind:
            raise Unavailable("the entitlements of this namespace cannot be counted now")

    def _now_in(self, namespace: str, real: datetime) -> datetime:
        return self._frozen.get(namespace, real)

    async def _read_changes(self, now: datetime) -> set[str]:
        """Read what was changed; returns the namespaces that could not be read or counted."""
        self._frozen = await self._definitions.frozen_times()
        found = await self._definitions.recent_changes(SEEN_WITHIN)
        new = [one for one in found if one.id not in self._changes]
        meters_changed = any(one.entity in ("meter", "feature") for one in new)
        is_due = self._all_read_at is None or now - self._all_read_at > ALL_ANEW_AFTER
        if is_due or meters_changed:
            behind = await self._read_all(now)
        else:
            changed = await self._customers_of(new)
            known = await self._definitions.customer_ids() if self._behind else {}
            for namespace in self._behind:
                self._counted.pop(namespace, None)
                changed[namespace] = set(known.get(namespace, ()))
            behind = await self._each(changed, lambda one, ids: self._read(one, ids, now))
        self._changes = {one.id for one in found}
        return behind

    async def _customers_of(self, changes: Sequence[Change]) -> dict[str, set[str]]:
        """Whose entitlements are changed by these: customer ids by namespace."""
        ids: dict[str, set[str]] = {}
        by_entity: dict[str, list[str]] = {}
        for one in changes:
            by_entity.setdefault(one.entity, []).append(one.entity_id)
            if one.entity == "customer":
                ids.setdefault(one.namespace, set()).add(one.entity_id)
        subscriptions, resets = by_entity.get("subscription", []), by_entity.get("entitlement", [])
        for theirs in (
            await self._definitions.customers_of_subscriptions(subscriptions),
            await self._definitions.customers_of_resets(resets),
        ):
            for namespace, customer_ids in theirs.items():
                ids.setdefault(namespace, set()).update(customer_ids)
        return ids

    async def _each(
        self, by_namespace: Mapping[str, T], do: Callable[[str, T], Awaitable[None]]
    ) -> set[str]:
        """Do it for each namespace; returns those for which it failed."""
        failed = set()
        for namespace, what in by_namespace.items():
            try:
                await do(namespace, what)
            except Exception as err:
                failed.add(namespace)
                if namespace not in self._behind:  # it is said once, not at each look
                    is_bug = not isinstance(err, Unavailable)
                    log.error("entitlements of %s are not counted", namespace, exc_info=is_bug)
        return failed

    async def _read_all(self, now: datetime) -> set[str]:
        self._counted = {}
        known = await self._definitions.customer_ids()
        for namespace, customer_id in list(self._accounts):
            if customer_id not in known.get(namespace, ()):
                self._forget(namespace, customer_id)
        behind = await self._each(known, lambda one, ids: self._read(one, ids, now))
        self._all_read_at = now
        return behind

    async def _read(self, namespace: str, customer_ids: Collection[str], now: datetime) -> None:
        """Put the customers' accounts anew; each is counted before it is found."""
        if namespace not in self._counted:
            self._counted[namespace] = await self._definitions.counted(namespace)
            self._feature_keys[namespace] = await self._definitions.feature_keys(namespace)
        wanted = sorted(customer_ids)
        for first in range(0, len(wanted), CUSTOMERS_AT_ONCE):
            some = wanted[first : first + CUSTOMERS_AT_ONCE]
            there = self._now_in(namespace, now)
            found = await self._definitions.of_customers(namespace, some, there)
            accounts = [Account(definition, there) for definition in found]
            await self._count(namespace, accounts, now)
            for customer_id in some:
                self._forget(namespace, customer_id)
            for account in accounts:
                self._remember(account)

    def _remember(self, account: Account) -> None:
        customer = account.definition.customer
        namespace = customer.namespace
        self._accounts[namespace, customer.id] = account
        for name in (customer.id, customer.key):
            self._names[namespace, name] = account
        for span in account.definition.spans:
            self._paying.setdefault((namespace, span.subject), {})[customer.id] = account
            if span.to is None:
                self._owners[namespace, span.subject] = account

    def _forget(self, namespace: str, customer_id: str) -> None:
        account = self._accounts.pop((namespace, customer_id), None)
        if account is None:
            return
        for name in (customer_id, account.definition.customer.key):
            if self._names.get((namespace, name)) is account:
                del self._names[namespace, name]
        for span in account.definition.spans:
            self._paying.get((namespace, span.subject), {}).pop(customer_id, None)
            if self._owners.get((namespace, span.subject)) is account:
                del self._owners[namespace, span.subject]

    async def _new_usage(self) -> list[Stored]:
        """What was stored since the last look; at the first one only where to look from."""
        is_first = self._stored_since is None
        if self._stored_since is None:
            self._stored_since = await self._usage.newest_stored_at() - SEEN_WITHIN
        rows = await self._usage.stored_since(self._stored_since, SEEN_WITHIN)
        before = self._stored
        self._stored = {
            (row.namespace, row.event_type, row.subject, row.second): row.content for row in rows
        }
        newest = max((row.second for row in rows), default=self._stored_since)
        self._stored_since = max(self._stored_since, newest - SEEN_WITHIN)
        if is_first:  # whoever it concerns is not counted yet
            return []
        return [
            row
            for row in rows
            if before.get((row.namespace, row.event_type, row.subject, row.second)) != row.content
        ]

    def _mark(self, new: Sequence[Stored]) -> None:
        types = {
            namespace: {one.meter.event_type for one in counted.values()}
            for namespace, counted in self._counted.items()
        }
        for row in new:
            if row.event_type in types.get(row.namespace, ()):
                for account in self._paying.get((row.namespace, row.subject), {}).values():
                    account.stored(row.earliest)

    async def _count(self, namespace: str, accounts: Sequence[Account], now: datetime) -> None:
        counted, there = self._counted.get(namespace, {}), self._now_in(namespace, now)
        wanted = [one for account in accounts for one in account.wanted(counted, there)]
        try:
            for parts in ((Part.BASE, Part.RECENT), (Part.WHOLE,), (Part.GRANTED,)):
                await self._ask(counted, [one for one in wanted if one.part in parts])
        except BaseException:
            for account in accounts:
                account.is_dirty = account.base_is_dirty = True
            raise

    async def _ask(self, counted: Mapping[str, Metered], wanted: Sequence[Wanted]) -> None:
        features = sorted({feature for one in wanted for feature in one.features(counted)})
        shares = [share for group, one in enumerate(wanted) for share in one.shares(group)]
        asked = [counted[feature] for feature in features]
        found = await self._usage.count(asked, shares) if asked and shares else {}
        nothing = [NOTHING] * len(features)
        for group, one in enumerate(wanted):
            one.account.take(one, dict(zip(features, found.get(group, nothing), strict=True)))
