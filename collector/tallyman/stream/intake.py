"""Owns what a way in hands its events to, whether that stores them or sends them on.

It does not know HTTP: what a refusal looks like there is the API's.
"""

from collections.abc import Sequence
from typing import Protocol

from tallyman.store.events import Accepted, Received


class Intake(Protocol):
    """Takes checked events; embedded it is a `GroupCommit`, in production a `KafkaIntake`."""

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        """Make a whole batch durable; on return it is.

        Called by every request, many at a time. Waits, within a bound, when more comes in than can
        be stored. A batch that was refused may have been taken in part: sending it again is
        harmless, since an event's identity is its own.

        Raises:
            Unavailable: it is not known to be durable; send it again later.
            InvalidInput: it can never be taken.
        """
        ...
