"""Keeps live credit known without asking for it, and tops it up where that is wanted.

How much is left is `credit_balance.py`'s, when it is topped up the domain's.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tallyman import metrics
from tallyman.billing.books import Books
from tallyman.billing.credit_balance import live_balances
from tallyman.domain.credit_top_up import CreditTopUp
from tallyman.errors import TallymanError
from tallyman.store.credit_top_ups import CreditTopUpStore

CUSTOMERS_AT_ONCE: Final = 500
ZERO: Final = Decimal(0)
_log = logging.getLogger(__name__)


class CreditWatch:
    """The live credit of every customer that has any, as it was at the last look.

    `tops_up` says whose namespace's top-ups can be paid.
    """

    def __init__(
        self,
        books: Books,
        clock: Callable[[], datetime],
        tops_up: Callable[[str], bool] = lambda _namespace: False,
    ) -> None:
        self._books = books
        self._clock = clock
        self._tops_up = tops_up
        self._top_ups = CreditTopUpStore(books.database)
        self._live: dict[tuple[str, str], Decimal] = {}  # by customer id and currency
        self.looked_at: datetime | None = None

    def live(self, customer_id: str, currency: str) -> Decimal:
        """What was left at the last look; who has no credit has none left."""
        return self._live.get((customer_id, currency), ZERO)

    def age(self, now: datetime) -> timedelta | None:
        """How long ago the last look at everyone was; None before the first one."""
        return None if self.looked_at is None else now - self.looked_at

    async def run(self, interval_seconds: float) -> None:
        """Look for ever, at most half of the time; what fails is tried again."""
        while True:
            began = time.monotonic()
            try:
                await self.refresh()
            except TallymanError as err:
                _log.warning("credit is not looked at: %s", err)
            except Exception as err:  # noqa: BLE001 – the server must go on; it looks again
                _log.error("credit is not looked at: %s", type(err).__name__)
            await asyncio.sleep(max(interval_seconds, time.monotonic() - began))

    async def refresh(self) -> None:
        """Look at everyone who has credit, or is topped up."""
        now = self._clock()
        whose = {ns: set(ids) for ns, ids in (await self._books.credits.customers()).items()}
        for setting in await self._top_ups.of():
            whose.setdefault(setting.namespace, set()).add(setting.customer_id)
        with metrics.CREDIT_LOOK_SECONDS.time():
            for namespace, ids in whose.items():
                wanted = sorted(ids)
                for first in range(0, len(wanted), CUSTOMERS_AT_ONCE):
                    await self.look(namespace, wanted[first : first + CUSTOMERS_AT_ONCE])
        known = {id_ for ids in whose.values() for id_ in ids}
        self._live = {key: left for key, left in self._live.items() if key[0] in known}
        self.looked_at = now

    async def look(self, namespace: str, customer_ids: Collection[str]) -> None:
        """Look at these customers, and top up what is too little."""
        now = await self._books.sandboxes.now(namespace, self._clock())
        ids = sorted(customer_ids)
        found = await live_balances(self._books, namespace, ids, now)
        self._live = {key: x for key, x in self._live.items() if key[0] not in customer_ids} | found
        if self._tops_up(namespace):
            await self._top_up(await self._top_ups.of(ids), now)

    async def _top_up(self, settings: Sequence[CreditTopUp], now: datetime) -> None:
        for setting in settings:
            live = self.live(setting.customer_id, setting.currency)
            if live < setting.threshold:
                grant = await self._top_ups.begin(setting, live, now)
                if grant is not None:
                    metrics.CREDIT_TOP_UPS.inc()
                    _log.info("customer %s is topped up: %s", setting.customer_id, grant.id)
