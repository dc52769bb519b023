"""Making something at Stripe once: looked for first, under one key, and again before it is forgotten.

What is made is the caller's; that each attempt is written down first is, too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from tallyman.errors import StripeKeySpent
from tallyman.payments.stripe_lines import GENERATION_KEY

KEY_MEMORY: Final = timedelta(hours=23)  # Stripe keeps a key for at least 24 hours
CLOCKS: Final = timedelta(hours=1)  # the most by which Stripe's clock and ours may differ
T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """`generation` is a part of the key, `at` when it was first asked for under that key."""

    generation: int
    at: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """From when on what was made by it may be there; None if that is not known."""
        return None if self.at is None else self.at - CLOCKS

    def metadata(self, name: str, id_: str) -> dict[str, str]:
        """What tells what was made by it; without a time, by any."""
        given = {name: id_}
        return given if self.at is None else given | {GENERATION_KEY: str(self.generation)}


async def make_once(
    attempt: Attempt,
    now: datetime,
    *,
    keep: Callable[[Attempt], Awaitable[None]],
    find: Callable[[Attempt], Awaitable[T | None]],
    make: Callable[[Attempt], Awaitable[T]],
) -> T:
    """What was made, now or before.

    The first time it is looked for too, by an attempt without a time: our memory may have been put back
    to an older one from a backup, and Stripe's not.

    Raises:
        StripeKeySpent: a new key gives an old answer too; it is tried again later.
    """
    is_spent = attempt.at is not None and now - attempt.at >= KEY_MEMORY
    if attempt.at is None:
        found = await find(attempt)
        if found is not None:
            return found
        attempt = Attempt(attempt.generation, now)
        await keep(attempt)
    while True:
        if is_spent:
            found = await find(attempt)
            if found is not None:
                return found
            attempt = Attempt(attempt.generation + 1, now)
            await keep(attempt)
        try:
            return await make(attempt)
        except StripeKeySpent:
            if is_spent:
                raise
            is_spent = True
