"""Owns the order of the batches that are under way: stored side by side, committed as they were read.

It does not store or commit: see `consumer.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tallyman.stream.work import Work


class UnderWay:
    """The works that are begun and not over, in the order they were read."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._works: list[Work] = []
        self._attempted: set[Work] = set()
        self._is_left = False
        self._is_to_rest = False
        self._changed = asyncio.Condition()

    def has(self, work: Work) -> bool:
        """Whether it is to be attempted: it is neither over nor left."""
        return work in self._works

    async def begin(self, work: Work) -> bool:
        """Take a work in when there is room; False if one before it was left, and it may not be."""
        async with self._changed:
            await self._changed.wait_for(self._may_begin)
            if not self._is_left:
                self._works.append(work)
            return not self._is_left

    @asynccontextmanager
    async def attempt(self, work: Work) -> AsyncIterator[None]:
        """Hold off a rest for the block; begins when nothing is in the way of the work's next step."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._may_be_attempted(work))
            self._attempted.add(work)
        try:
            yield
        finally:
            async with self._changed:
                self._attempted.discard(work)
                self._changed.notify_all()

    async def turn(self, work: Work) -> bool:
        """Within an attempt, wait until all before it are over; False if that takes another attempt."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self.has(work) or self._works[0] not in self._attempted - {work}
            )
            return self._works[:1] == [work]

    async def over(self, work: Work) -> None:
        """Within its attempt: it is committed, or is another consumer's. The next may have its turn."""
        async with self._changed:
            if self.has(work):
                self._works.remove(work)
            self._changed.notify_all()

    async def leave(self, work: Work) -> None:
        """Leave it undone, and with it all that were read behind it."""
        async with self._changed:
            self._is_left = True
            if self.has(work):
                del self._works[self._works.index(work) :]
            self._changed.notify_all()

    async def rest(self) -> None:
        """Return when no attempt is under way; none begins before what the caller then does at once."""
        async with self._changed:
            self._is_to_rest = True
            try:
                await self._changed.wait_for(lambda: not self._attempted)
            finally:
                self._is_to_rest = False
                self._changed.notify_all()

    def _may_begin(self) -> bool:
        return self._is_left or len(self._works) < self._at_once

    def _may_be_attempted(self, work: Work) -> bool:
        """What is stored waits for its turn; else for those before it that may have its events.

        Of two events with one identity the first that was read is kept, also if it fails at first.
        """
        if not self.has(work):
            return True
        if self._is_to_rest:
            return False
        before = self._works[: self._works.index(work)]
        if work.stored:
            return not before
        return all(one.stored or one.ids.isdisjoint(work.ids) for one in before)
