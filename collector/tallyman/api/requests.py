"""The requests under way, so that a server that stops can finish them.

It does not answer them: see `border.py`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Requests:
    """How many there are, and whether the server is stopping."""

    def __init__(self) -> None:
        self.stopping = False
        self._count = 0
        self._none_left = asyncio.Event()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while the block runs."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if self.stopping and not self._count:
                self._none_left.set()

    async def finish(self, seconds: float) -> None:
        """Wait until none is under way, but no longer than this; connections are not kept."""
        self.stopping = True
        if not self._count:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none_left.wait()
