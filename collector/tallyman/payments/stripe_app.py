"""Stripe as one installed app: its account, its namespace, and the work that it does by itself.

The way of one invoice is `collect.py`'s.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tallyman.errors import ConfigurationError, StripeRefused, StripeUnanswered, TallymanError
from tallyman.metrics import STRIPE_WAITING
from tallyman.payments.collect import Collector, StripeStores
from tallyman.payments.stripe_calls import StripeCalls
from tallyman.payments.webhook import Webhooks
from tallyman.store.database import Database

API: Final = "https://api.stripe.com"
INVOICES_AT_ONCE: Final = 500
CUSTOMERS_AT_ONCE: Final = 8
_SECRET_KEY: Final = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StripeAccount:
    """How the account is reached. A key of live mode is taken only if `live` says so."""

    key: str
    namespace: str = "default"
    webhook_secret: str | None = None
    url: str = API
    live: bool = False
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse a key that is none, or that charges real cards unasked; it is not repeated."""
        found = _SECRET_KEY.fullmatch(self.key)
        if found is None:
            raise ConfigurationError(
                "stripe_api_key is no secret key: it must begin with sk_test_, rk_test_, "
                "sk_live_ or rk_live_"
            )
        if found[2] == "live" and not self.live:
            raise ConfigurationError(
                "stripe_api_key is a live key, which takes real money: set stripe_live too"
            )


class StripeApp:
    """Everything that is done with one account."""

    def __init__(
        self, account: StripeAccount, database: Database, clock: Callable[[], datetime]
    ) -> None:
        self.account = account
        self.calls = StripeCalls(account.key, account.url, account.timeout_seconds)
        self.stores = StripeStores.of(database, account.namespace)
        self.collector = Collector(self.stores, self.calls, clock)
        self.webhooks = Webhooks(database, account.namespace)
        self._clock = clock
        self._account_id: str | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self.calls.close()

    async def account_id(self) -> str | None:
        """The id of the account at Stripe; None if Stripe does not say."""
        if self._account_id is None:
            try:
                self._account_id = await self.calls.account_id()
            except TallymanError as err:
                _log.warning("the account of Stripe's key is not known: %s", err)
        return self._account_id

    async def work(self) -> int:
        """One look at everything that is due; returns at how many. Customers are independent."""
        due = await self.stores.syncs.due(self._clock(), INVOICES_AT_ONCE)
        by_customer: dict[str, list[str]] = {}
        for invoice_id, customer_id in due:
            by_customer.setdefault(customer_id, []).append(invoice_id)
        free = asyncio.Semaphore(CUSTOMERS_AT_ONCE)

        async def one(invoice_ids: Sequence[str]) -> None:
            async with free:
                for invoice_id in invoice_ids:
                    if self.calls.unauthorized:
                        return  # the key must be mended first
                    await self._work_on(invoice_id)

        self.calls.unauthorized = False
        await asyncio.gather(*(one(ids) for ids in by_customer.values()))
        STRIPE_WAITING.set(await self.stores.syncs.count_waiting())
        return len(due)

    async def work_for_ever(self, interval_seconds: float) -> None:
        """Look now, and again after each interval, until it is cancelled."""
        while True:
            try:
                await self.work()
            except TallymanError as err:
                _log.warning("Stripe waits: %s", err)
            except Exception as err:  # noqa: BLE001 – the server must go on; every step is kept
                _log.error("working for Stripe failed: %s", type(err).__name__)
            await asyncio.sleep(interval_seconds)

    async def _work_on(self, invoice_id: str) -> None:
        try:
            await self.collector.work(invoice_id)
        except (StripeUnanswered, StripeRefused):
            pass  # it has been logged, and is due again later
        except Exception as err:  # noqa: BLE001 – one invoice must not hold up the others
            _log.error("invoice %s: %s", invoice_id, type(err).__name__)
