"""The reconciliation job of a server: once an hour, with its metrics.

What is looked at is `reconcile.py`'s.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from tallyman.errors import TallymanError
from tallyman.metrics import LATE, MISSING, RECONCILED_AT, ROLLUP_DIFFERING
from tallyman.stream.reconcile import Reconciliation
from tallyman.stream.reconcile_report import Report, missing_in

LOOKED_BACK: Final = timedelta(days=7)
FIRST_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


async def reconcile_for_ever(
    reconciliation: Reconciliation, interval_seconds: float, clock: Callable[[], datetime]
) -> None:
    """Reconcile a minute after the start and then once in each interval, until it is cancelled."""
    await asyncio.sleep(min(FIRST_SECONDS, interval_seconds))
    while True:
        await reconcile_once(reconciliation, clock())
        await asyncio.sleep(interval_seconds)


async def reconcile_once(reconciliation: Reconciliation, now: datetime) -> None:
    """Reconcile the last week; failures are logged, and the next run does it again."""
    try:
        report = await reconciliation.run(now, now - LOOKED_BACK)
    except TallymanError as err:
        _log.warning("the reconciliation failed, and is done again later: %s", err)
    except Exception as err:  # noqa: BLE001 – the server must go on
        _log.error("the reconciliation failed: %s", type(err).__name__)
    else:
        show(report)
        if report.differing:
            _log.error(
                "%d hours of the rollup said something else than the events, and are put right",
                report.differing,
            )
        if missing_in(report):
            _log.error(
                "%d are missing since %s; `tallyman reconcile` says which",
                missing_in(report),
                report.since.isoformat(timespec="minutes"),
            )


def show(report: Report) -> None:
    """Set the metrics."""
    for kind in ("lost", "missing", "refused", "forgotten"):
        MISSING.labels(kind).set(getattr(report, kind))
    LATE.set(report.late)
    ROLLUP_DIFFERING.set(report.differing)
    RECONCILED_AT.set(report.at.timestamp())
