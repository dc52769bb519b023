"""Keeps the metric of usage that belongs to nobody: asked for again when it is scraped and old.

What is counted is `store/unattributed.py`'s.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

from tallyman import metrics
from tallyman.errors import Unavailable
from tallyman.store.turns import asked_by
from tallyman.store.unattributed import UnattributedUsage, by_reason

KEPT: Final = timedelta(minutes=1)
logger = logging.getLogger(__name__)


class UnattributedGauge:
    """The gauge of all namespaces; a store that does not answer leaves it as it was."""

    def __init__(self, usage: UnattributedUsage) -> None:
        self._usage = usage
        self._read_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def refresh(self, now: datetime) -> None:
        """Ask again if a minute has gone by."""
        async with self._lock:  # for which others wait, so it waits for nobody's turn
            if self._read_at is not None and now - self._read_at < KEPT:
                return
            self._read_at = now
            try:
                with asked_by(None):
                    found = await self._usage.subjects(now)
            except Unavailable:
                logger.warning("the usage that belongs to nobody was not counted: no answer")
                return
        for reason, events in by_reason(found).items():
            metrics.UNATTRIBUTED.labels(reason).set(events)
