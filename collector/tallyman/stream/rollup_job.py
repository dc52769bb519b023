"""The job of a server that refreshes the rollup, with its metric.

What is computed is `store/rollup.py`'s.
"""

import asyncio
import logging
from typing import Final

from tallyman.errors import TallymanError
from tallyman.metrics import ROLLUP_AT
from tallyman.store.rollup import Rollup

_log: Final = logging.getLogger(__name__)


async def refresh_for_ever(rollup: Rollup, interval_seconds: float) -> None:
    """Refresh once in each interval, at its end, until it is cancelled; several servers may at once."""
    while True:
        await asyncio.sleep(interval_seconds)
        await refresh_once(rollup)


async def refresh_once(rollup: Rollup) -> None:
    """Refresh; failures are logged, and the next time does what this one did not."""
    try:
        watermark = await rollup.refresh()
    except TallymanError as err:
        _log.warning("the rollup was not refreshed, and is later: %s", err)
    except Exception as err:  # noqa: BLE001 – the server must go on
        _log.error("the rollup was not refreshed: %s", type(err).__name__)
    else:
        ROLLUP_AT.set(0 if watermark is None else watermark.timestamp())
