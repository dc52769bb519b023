"""How many subjects each API key may bring for the first time, so that no sender fills the stores with names.

It does not know what a subject is worth: see `customers.py`. What is under way is bounded by `shares.py`.
"""

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from tallyman.errors import TooManySubjects

MOST_REMEMBERED: Final = 200_000  # subjects, as hashes: 15 MB
FIRST_ASKED, MOST_ASKED = 10, 500  # subjects that the store is asked for at a time
Stored = Callable[[str, Sequence[str]], Awaitable[set[str]]]


class NewSubjects:
    """What each key has left of its subjects; it is refilled steadily, up to what a minute brings.

    A subject is new that this process has not seen. Only where a key has nothing left the store is asked,
    so neither a restart nor a full memory keeps out a subject that is stored.
    """

    def __init__(
        self, per_minute: int, stored: Stored, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`stored` gives those of some subjects of a namespace that are stored. 0: no limit."""
        self._per_minute = per_minute
        self._stored = stored
        self._clock = clock
        self._remembered: set[int] = set()
        self._left: dict[str, tuple[float, float]] = {}  # by key: so many, at this time

    async def admit(self, actor: str, namespace: str, subjects: Iterable[str]) -> None:
        """Count the new ones; one batch may bring as many as it likes, and the next ones wait for it.

        Raises:
            TooManySubjects: there is a new one, and the key has none left; none is counted.
        """
        if not self._per_minute:
            return
        new = {
            one: key
            for one in set(subjects)
            if (key := hash((namespace, one))) not in self._remembered
        }
        if not new:
            return
        left = self._left_of(actor)
        if left >= 1:
            self._left[actor] = left - len(new), self._clock()
        else:
            await self._require_stored(namespace, list(new), left)
        self._remember(new.values())

    def _left_of(self, actor: str) -> float:
        left, at = self._left.get(actor, (float(self._per_minute), self._clock()))
        return min(self._per_minute, left + (self._clock() - at) * self._per_minute / 60)

    async def _require_stored(self, namespace: str, subjects: Sequence[str], left: float) -> None:
        """Few are asked for at first: one that is not stored is enough."""
        begin, asked = 0, FIRST_ASKED
        while begin < len(subjects):
            some = subjects[begin : begin + asked]
            if set(some) - await self._stored(namespace, some):
                raise TooManySubjects(
                    f"this key brings new subjects faster than {self._per_minute} a minute",
                    after_seconds=math.ceil((1 - left) * 60 / self._per_minute),
                )
            begin, asked = begin + asked, min(2 * asked, MOST_ASKED)

    def _remember(self, hashes: Iterable[int]) -> None:
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered.update(hashes)
