"""The billing job of a server: a run for each namespace, again and again.

What a run does is `run.py`'s.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from tallyman.billing.books import Books
from tallyman.billing.run import Order, run
from tallyman.domain.access import JOB
from tallyman.errors import TallymanError
from tallyman.metrics import (
    BILLING_LAST_RUN,
    BILLING_RUN_SECONDS,
    BILLING_RUNS,
    INVOICES,
)

_EVERYONE: Final = timedelta(days=1)  # late events of those who have left are looked for so often
_log = logging.getLogger(__name__)


async def bill_for_ever(
    books: Books, interval_seconds: float, clock: Callable[[], datetime]
) -> None:
    """Bill what is due now, and then once in each interval, until it is cancelled.

    Every customer is looked at first and once a day; the runs between look only at those of whom
    something may be due. A run that fails is repeated with the next interval: it goes on where it was.
    """
    looked_at_all: datetime | None = None
    while True:
        now = clock()
        only_due = looked_at_all is not None and now - looked_at_all < _EVERYONE
        if await bill_all(books, now, only_due=only_due) and not only_due:
            looked_at_all = now
        await asyncio.sleep(interval_seconds)


async def bill_all(books: Books, now: datetime, *, only_due: bool = False) -> bool:
    """One run for each namespace that has subscriptions; failures are logged and counted.

    Returns whether all went well.
    """
    is_done = False
    started = time.monotonic()
    try:
        for namespace in await books.subscriptions.namespaces():
            there = await books.sandboxes.now(namespace, now)
            outcome = await run(books, namespace, Order(there, only_due=only_due, by=JOB))
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
        is_done = True
    BILLING_RUN_SECONDS.observe(time.monotonic() - started)
    return is_done


async def count_invoices(books: Books) -> None:
    """Set the gauge of invoices by their extended status."""
    INVOICES.clear()
    for (_, state), number in (await books.invoices.count_by_status()).items():
        INVOICES.labels(state).set(number)
