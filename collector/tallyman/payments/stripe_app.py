"""Stripe as one installed app: its account, its namespace, and the work that it does by itself.

The way of one invoice is `collect.py`'s, of what else is asked for `operate.py`'s.
"""

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tallyman.domain.stripe_operation import OperationKind
from tallyman.errors import (
    ConfigurationError,
    InvalidInput,
    InvalidParameter,
    StripeRefused,
    StripeUnanswered,
    TallymanError,
)
from tallyman.metrics import STRIPE_OPERATIONS_WAITING, STRIPE_WAITING
from tallyman.payments.backoff import wait_after
from tallyman.payments.changed_customer import tell_change
from tallyman.payments.collect import Collector
from tallyman.payments.operate import Operator
from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.stripe_calls import StripeCalls
from tallyman.payments.stripe_connection import StripeConnection
from tallyman.payments.stripe_stores import StripeStores
from tallyman.payments.way_to_pay import take_way_to_pay
from tallyman.payments.webhook import Webhooks
from tallyman.store.database import Database
from tallyman.store.stripe_operations import Heard

API: Final = "https://api.stripe.com"
AT_ONCE: Final = 500
CUSTOMERS_AT_ONCE: Final = 8
AT_A_HINT: Final = 4  # it is looked again as after so many failures: in a minute or so
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
    """Everything that is done with one account.

    `heard` is called, in the transaction of the new state, with each operation of a kind that moves.
    """

    def __init__(
        self,
        account: StripeAccount,
        database: Database,
        clock: Callable[[], datetime],
        heard: Mapping[OperationKind, Heard] | None = None,
    ) -> None:
        self.account = account
        self.connection = StripeConnection(account.key, account.url, account.timeout_seconds)
        self.calls = StripeCalls(self.connection)
        self._more_calls = OperationCalls(self.connection)
        self.stores = StripeStores.of(database, account.namespace)
        self.collector = Collector(self.stores, self.calls, self._more_calls, clock)
        self.operator = Operator(self.stores, self.calls, self._more_calls, clock, heard or {})
        self.webhooks = Webhooks(database, account.namespace)
        self._clock = clock
        self._account_id: str | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self.connection.close()

    def check_key(self, given: str, field: str) -> None:
        """That a key is the one in the environment: none is taken from elsewhere, nor repeated.

        Raises:
            InvalidInput: it is another.
        """
        if not hmac.compare_digest(given.encode(), self.account.key.encode()):
            reason = "must be the key of the environment, TALLYMAN_STRIPE_API_KEY"
            raise InvalidInput(f"{field} {reason}", [InvalidParameter(field, "invalid", reason)])

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
        self.connection.unauthorized = False
        await self._tell_changes()
        await self._take_ways_to_pay()
        invoices = await self.stores.syncs.due(self._clock(), AT_ONCE)
        await self._each(invoices, self.collector.work)
        namespace = self.account.namespace
        operations = await self.stores.operations.due(namespace, self._clock(), AT_ONCE)
        await self._each(operations, self.operator.work)
        STRIPE_WAITING.set(await self.stores.syncs.count_waiting())
        STRIPE_OPERATIONS_WAITING.set(await self.stores.operations.count_waiting(namespace))
        return len(invoices) + len(operations)

    async def _tell_changes(self) -> None:
        links, now = self.stores.links, self._clock()
        for link, at in await links.to_be_told(self.account.namespace, now, AT_ONCE):
            try:
                await tell_change(self.stores, self._more_calls, link, at)
            except StripeUnanswered as err:
                _log.warning("the change of customer %s waits: %s", link.customer_id, err)
                await links.told(link, at, now + wait_after(AT_A_HINT, err))

    async def _take_ways_to_pay(self) -> None:
        links, now = self.stores.links, self._clock()
        for link, at in await links.hinted(self.account.namespace, now, AT_ONCE):
            try:
                await take_way_to_pay(self.stores, self._more_calls, link, at, now)
            except (StripeUnanswered, StripeRefused) as err:
                _log.warning("the way to pay of customer %s waits: %s", link.customer_id, err)
                await links.looked(link, at, now + wait_after(AT_A_HINT, err))

    async def _each(
        self, due: Sequence[tuple[str, str]], work: Callable[[str], Awaitable[None]]
    ) -> None:
        """Work on each (id, customer id): a customer's one after the other."""
        by_customer: dict[str, list[str]] = {}
        for id_, customer_id in due:
            by_customer.setdefault(customer_id, []).append(id_)
        free = asyncio.Semaphore(CUSTOMERS_AT_ONCE)

        async def one(ids: Sequence[str]) -> None:
            async with free:
                for id_ in ids:
                    if self.connection.unauthorized:
                        return  # the key must be mended first
                    await _work_on(id_, work)

        await asyncio.gather(*(one(ids) for ids in by_customer.values()))

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


async def _work_on(id_: str, work: Callable[[str], Awaitable[None]]) -> None:
    try:
        await work(id_)
    except (StripeUnanswered, StripeRefused):
        pass  # it has been logged, and is due again later
    except Exception as err:  # noqa: BLE001 – one invoice must not hold up the others
        _log.error("%s: %s", id_, type(err).__name__)
