"""The billing job of a server: a run for each namespace, again and again.

What a run does is `run.py`'s.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime

from tallyman.billing.books import Books
from tallyman.billing.run import Order, run
from tallyman.errors import TallymanError
from tallyman.metrics import (
    BILLING_LAST_RUN,
    BILLING_RUN_SECONDS,
    BILLING_RUNS,
    INVOICES,
)

_log = logging.getLogger(__name__)


async def bill_for_ever(
    books: Books, interval_seconds: float, clock: Callable[[], datetime]
) -> None:
    """Bill what is due now, and then once in each interval, until it is cancelled.

    A run that fails is repeated with the next interval: it goes on where it was.
    """
    while True:
        await bill_all(books, clock())
        await asyncio.sleep(interval_seconds)


async def bill_all(books: Books, now: datetime) -> None:
    """One run for each namespace that has subscriptions; failures are logged and counted."""
    started = time.monotonic()
    try:
        for namespace in await books.subscriptions.namespaces():
            outcome = await run(books, namespace, Order(now))
            if outcome.invoices:
                _log.info("billed in %s: %s", namespace, dict(outcome.by_status()))
        await count_invoices(books)
    except TallymanError as err:
        BILLING_RUNS.labels("failed").inc()
        _log.warning("billing failed, and goes on with the next run: %s", err)
    except Exception as err:  # noqa: BLE001 – the server must go on; nothing is half billed
        BILLING_RUNS.labels("failed").inc()
        _log.error("billing failed: %s", type(err).__name__)
    else:
        BILLING_RUNS.labels("done").inc()
        BILLING_LAST_RUN.set_to_current_time()
    BILLING_RUN_SECONDS.observe(time.monotonic() - started)


async def count_invoices(books: Books) -> None:
    """Set the gauge of invoices by their extended status."""
    INVOICES.clear()
    for (_, state), number in (await books.invoices.count_by_status()).items():
        INVOICES.labels(state).set(number)
