"""How much each API key may have under way at once, so that a flood of one does not starve others.

What waits behind the door for all of them together is bounded by `stream/group_commit.py`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tallyman.errors import TooManyRequests

EVENTS: Final = 20_000  # a fifth of what may wait in all; a second's worth of storing, or less


class Shares:
    """The events that each caller has under way."""

    def __init__(self, events: int = EVENTS) -> None:
        self._most = events
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def taken(self, actor: str, events: int) -> Iterator[None]:
        """Hold a part of the caller's share; one batch alone may be as large as it likes.

        Raises:
            TooManyRequests: it has its share under way already.
        """
        if self._under_way[actor] and self._under_way[actor] + events > self._most:
            raise TooManyRequests(
                f"this key has {self._under_way[actor]} events under way, and may have {self._most}; "
                "send these when others are answered"
            )
        self._under_way[actor] += events
        try:
            yield
        finally:
            self._under_way[actor] -= events
            if not self._under_way[actor]:
                del self._under_way[actor]
