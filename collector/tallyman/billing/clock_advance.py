"""Moves a sandbox's clock: billing runs at each moment on the way at which it has something to do.

So what a year would bring is there with the dates that it would have had. Which moments those are, the
store says, and the profiles' own dates.
"""

from datetime import datetime

from tallyman.billing.books import Books
from tallyman.billing.run import Order, run
from tallyman.domain.access import LOCAL
from tallyman.domain.test_clock import TestClock


async def advance(
    books: Books, namespace: str, clock_id: str, to: datetime, *, by: str = LOCAL
) -> TestClock:
    """Bill what is due now, and then as the clock goes; on return it stands at `to`.

    Whoever is killed on the way leaves the clock where it was, and a second call goes on.

    Raises:
        NotFound: there is no such clock.
        InvalidInput: it would go back.
    """
    clock = await books.sandboxes.begin_advance(namespace, clock_id, to, by=by)
    at = clock.frozen_time
    while True:
        await run(books, namespace, Order(at, by=by))
        if at >= to:
            return await books.sandboxes.end_advance(clock, to)
        at = min(await _next(books, namespace, at) or to, to)
        await books.sandboxes.tick(clock, at)


async def _next(books: Books, namespace: str, after: datetime) -> datetime | None:
    """The next moment after this one at which something may be due."""
    moments = [
        profile.workflow.anchored.period_at(after).to
        for profile in (await books.profiles.every(namespace)).values()
        if profile.workflow.anchored is not None
    ]
    if (wake := await books.sandboxes.next_wake(namespace, after)) is not None:
        moments.append(wake)
    return min(moments, default=None)
