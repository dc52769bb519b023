"""Whose turn it is at the event store, so that slow questions of one API key keep nobody else out.

It does not know what is asked, and refuses nobody: who asks much waits for itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final
from weakref import WeakValueDictionary

_ASKER: Final[ContextVar[str | None]] = ContextVar("asker", default=None)


@contextmanager
def asked_by(asker: str | None) -> Iterator[None]:
    """What the block asks is this caller's; of None, as outside of any block, it is Tallyman's own."""
    token = _ASKER.set(asker)
    try:
        yield
    finally:
        _ASKER.reset(token)


class Turns:
    """Half of the connections are one caller's at most, and one is no caller's.

    So events that come in, and the jobs, never wait for those who ask.
    """

    def __init__(self, connections: int) -> None:
        self._most = max(1, connections // 2)
        self._asked = asyncio.Semaphore(max(1, connections - 1))
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a turn, each caller behind its own questions, and hold it while the block runs."""
        asker = _ASKER.get()
        if asker is None:
            yield
            return
        own = self._of.setdefault(asker, asyncio.Semaphore(self._most))
        async with own, self._asked:
            yield
