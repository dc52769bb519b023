"""Owns what the ways in hand their events to, whether that stores them or sends them on.

It does not know HTTP: what a refusal looks like there is the API's.
"""

from collections.abc import Sequence
from typing import Protocol

from tallyman.store.event_block import EventBlock
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


class BlockIntake(Intake, Protocol):
    """Takes checked events also as blocks; it is the store itself."""

    async def accept_block(self, block: EventBlock) -> Sequence[int]:
        """Make what is new in a block durable; returns where the others stand in it, for `accept`.

        Raises:
            Unavailable: what of it is stored is not known; send it again later.
        """
        ...
