"""Owns a batch on its way from Kafka into the store: what of it is an event, and which steps are done.

It does not do the steps: see `consumer.py`.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tallyman.errors import InvalidEvent
from tallyman.store.event_block import EMPTY, EventBlock
from tallyman.store.events import Received
from tallyman.stream.batch import Batch
from tallyman.stream.dead_letters import Rejected
from tallyman.stream.message import Record, decode, read_block

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Work:
    """A batch that is checked; what is done is not done again by the next attempt.

    The block has those that were read at once, `events` all others; no id is in both, or twice in
    the block.
    """

    batch: Batch
    default_namespace: str
    block: EventBlock
    events: list[tuple[Record, Received]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    ids: frozenset[str] = frozenset()
    stored: bool = False
    buried: bool = False
    committed: bool = False
    step: str = "store"

    @classmethod
    def check(cls, batch: Batch, default_namespace: str) -> "Work":
        """Tell a batch's events from what is none."""
        block = _block_of(batch, default_namespace)
        work = cls(batch, default_namespace, block)
        read = work._decode(sorted(set(range(len(batch.records))).difference(block.positions)))
        # Of two events with one id the first counts, so both go the same way, in their order.
        ids = Counter(block.ids)
        ids.update({received.event.id for received in read.values()})
        if len(ids) < ids.total():
            twice = {place for place, one in enumerate(block.ids) if ids[one] > 1}
            read |= work._decode([block.positions[place] for place in twice])
            work.block = block.without(twice)
        work.events = [(batch.records[at], read[at]) for at in sorted(read)]
        work.ids = frozenset(ids)
        return work

    def open_block(self, places: Sequence[int]) -> None:
        """All of the block is stored but what stands at some places: those are events from now on."""
        read = self._decode([self.block.positions[place] for place in places])
        self.events += [(self.batch.records[at], received) for at, received in read.items()]
        self.block = EMPTY

    def _decode(self, positions: Sequence[int]) -> dict[int, Received]:
        """The events at some positions of the batch; what is none is rejected."""
        read: dict[int, Received] = {}
        for at in positions:
            record = self.batch.records[at]
            try:
                read[at] = decode(record, self.default_namespace)
            except InvalidEvent as err:
                self.rejected.append(Rejected(record, err))
            except Exception as err:  # noqa: BLE001 – else it would stop all that stands behind it
                unreadable = InvalidEvent(f"the check itself failed: {type(err).__name__}")
                self.rejected.append(Rejected(record, unreadable))
        return read


def _block_of(batch: Batch, default_namespace: str) -> EventBlock:
    try:
        return read_block(batch.records, default_namespace)
    except Exception as err:  # noqa: BLE001 – a bug of it must not stop the stream
        log.warning("a batch is read one by one, since it cannot be read at once: %r", err)
        return EMPTY
