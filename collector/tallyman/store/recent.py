"""Owns what was stored a moment ago and is not yet remembered: it is written to `seen` together.

Only for the one process that stores, as nobody else sees what waits here. What is lost with it is
mended from the events themselves; how they are remembered is `seen.py`'s.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from tallyman.errors import Unavailable
from tallyman.store.seen import Seen, Trace, minute_of
from tallyman.store.write_ahead import WriteAhead

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.25
MOST: Final = 50_000  # a tenth of what is mended after a crash


class Recent:
    """`Seen` for a process that is alone: no insert for each group of events, but some a second."""

    def __init__(
        self,
        seen: Seen,
        ahead: WriteAhead | None = None,
        *,
        pause_seconds: float = PAUSE_SECONDS,
        most: int = MOST,
    ) -> None:
        """What is written is settled `ahead` of that: an event that is remembered is in ClickHouse."""
        self._seen = seen
        self._ahead = ahead
        self._pause_seconds = pause_seconds
        self._most = most
        self._by_minute: dict[tuple[bytes, int], Trace] = {}
        self._by_id: dict[bytes, Trace] = {}
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    async def by_minute(
        self, hashes: Sequence[bytes], times_us: Sequence[int]
    ) -> dict[bytes, Trace]:
        """As `Seen.by_minute`. What waits is looked at first: meanwhile it may be written."""
        keys = zip(hashes, map(minute_of, times_us), strict=True)
        near = {key[0]: self._by_minute[key] for key in keys if key in self._by_minute}
        far = [at for at, one in enumerate(hashes) if one not in near]
        found = await self._seen.by_minute([hashes[at] for at in far], [times_us[at] for at in far])
        return near | found

    async def by_id(self, hashes: Sequence[bytes]) -> dict[bytes, Trace]:
        """As `Seen.by_id`."""
        near = {one: self._by_id[one] for one in hashes if one in self._by_id}
        return near | await self._seen.by_id([one for one in hashes if one not in near])

    async def remember(self, traces: Iterable[Trace], by_id: Iterable[Trace]) -> None:
        """Remember what is stored: at once for this process, and written soon.

        Raises:
            Unavailable: too much waits, and it cannot be written.
        """
        self._by_minute.update(((one.id_hash, one.minute), one) for one in traces)
        self._by_id.update((one.id_hash, one) for one in by_id)
        if len(self._by_minute) > self._most:
            await self.write()
        elif self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    async def remember_rows(self, rows: bytes) -> None:
        """As `Seen.remember_rows`, at once."""
        await self._seen.remember_rows(rows)

    async def mend(self) -> None:
        """As `Seen.mend`."""
        await self._seen.mend()

    async def write(self) -> None:
        """Write what waits; on return `Seen` has it."""
        async with self._writing:
            by_minute, by_id = self._by_minute.copy(), self._by_id.copy()
            if self._ahead is not None:
                await self._ahead.settle()
            if not by_minute:
                return
            await self._seen.remember(by_minute.values(), by_id.values())
            for minute in by_minute:
                del self._by_minute[minute]
            for one in by_id:
                del self._by_id[one]

    async def close(self) -> None:
        """Write what waits, if that can be done: otherwise it is mended by the next process."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        with contextlib.suppress(Unavailable):
            await self.write()

    async def _write_soon(self) -> None:
        """Write in pauses until nothing waits; what fails is tried again after the next."""
        while self._by_minute:
            await asyncio.sleep(self._pause_seconds)
            try:
                await self.write()
            except Unavailable as err:
                log.warning(
                    "%d stored events are not remembered yet: %s", len(self._by_minute), err
                )
