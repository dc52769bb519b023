"""Events in the plugin's form, read many at a time by compiled code into rows of ClickHouse.

It takes only what `domain/event.py` would take, and makes the same of it: the row that `event_row.py` and
the view of `incoming` make, the trace that `seen.py` does. Whatever is in another form is in no block. The
compiled code is `collector/event_reader`; where it was not built, nothing is in a block.
"""

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

try:
    from tallyman import event_reader
except ImportError:  # built without a Rust compiler: Python reads everything, three times as slowly
    IS_BUILT = False
else:
    IS_BUILT = event_reader.FORMAT == 1  # one that was built before other columns is left alone

_TRACE: Final = struct.Struct("<4x16sq12x")  # of a row of `seen`


@dataclass(frozen=True)
class EventBlock:
    """Some events of a batch, in its order.

    `positions` say where they stood in the batch. `rows` are theirs in `incoming_read`, each ending
    where `ends` says, and `traces` theirs in `seen`, both in RowBinary.
    """

    positions: Sequence[int]
    ids: Sequence[str]
    rows: bytes
    ends: Sequence[int]
    traces: bytes

    @classmethod
    def read(
        cls,
        namespace: str,
        messages: Sequence[bytes],
        doors: Sequence[str],
        places: Sequence[int],
        moments_ms: Sequence[int],
    ) -> "EventBlock":
        """Take those of a batch's messages that are in the plugin's form; other threads run meanwhile.

        `doors` and `places` are as `Received` has them, `moments_ms` when they came, since 1970.
        """
        if not IS_BUILT:
            return EMPTY
        return cls(*event_reader.read(namespace, messages, doors, places, moments_ms))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def hashes(self) -> list[bytes]:
        """The identity of each, as `seen.id_hash` has it."""
        return [one for one, _ in _TRACE.iter_unpack(self.traces)]

    @property
    def times_us(self) -> list[int]:
        """When each counts, since 1970."""
        return [time for _, time in _TRACE.iter_unpack(self.traces)]

    def without(self, dropped: Collection[int]) -> "EventBlock":
        """The same without those that stand at some places of the block."""
        if not dropped:
            return self
        kept = [at for at in range(len(self)) if at not in dropped]
        rows = [self.rows[self.ends[at - 1] if at else 0 : self.ends[at]] for at in kept]
        size = _TRACE.size
        return EventBlock(
            [self.positions[at] for at in kept],
            [self.ids[at] for at in kept],
            b"".join(rows),
            list(accumulate(map(len, rows))),
            b"".join([self.traces[at * size : (at + 1) * size] for at in kept]),
        )


EMPTY: Final = EventBlock((), (), b"", (), b"")
