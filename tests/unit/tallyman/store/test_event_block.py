"""What is read at once of a batch is what Python reads of each message."""

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple
from tallyman.domain.event import LATEST
from tallyman.domain.period import microseconds, milliseconds
from tallyman.store.event_block import IS_BUILT, EventBlock
from tallyman.store.received import Received
from tallyman.store.seen import trace
from tallyman.stream.message import decode, read_block

from tests.rigs.plugin_form import Produced, message, one_odd_thing_at_a_time
from tests.rigs.recordings import spooled

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the event reader is not built: no cargo")
LATEST_MS = int(LATEST.timestamp() * 1000)


def text(value: str) -> bytes:
    """A text in RowBinary."""
    raw, length = value.encode(), bytearray()
    left = len(raw)
    while left >= 128:
        length.append(left % 128 + 128)
        left //= 128
    return bytes([*length, left]) + raw


def row(received: Received) -> bytes:
    """What `incoming_read` gets of an event, from what Python reads of it."""
    event, data = received.event, json.loads(received.data)
    tokens = data.get("tokens")
    assert tokens is None or len(str(abs(tokens))) <= 18  # a longer one is kept as a text
    return b"".join(
        (
            text(received.namespace), text(event.type), text(event.subject),
            struct.pack("<q", microseconds(received.time)), text(event.source), text(event.id),
            text(received.data.decode()), text(event.nodeid or ""), text(event.sequence or ""),
            struct.pack("<q", milliseconds(received.ingested_at)), text(received.door),
            struct.pack("<Q", received.place),
            b"\1" if tokens is None else b"\0" + struct.pack("<q", tokens),
            *(text(data.get(name) or "") for name in ("type", "model", "provider", "usage_source")),
            struct.pack("<q", data.get("waived_tokens") or 0),
        )
    )  # fmt: skip


def remembered(received: Received) -> bytes:
    """What `seen` gets of it."""
    one = trace(received.namespace, received.event, received.time, received.raw_data)
    return struct.pack("<I16sqIII", one.minute, *astuple(one))


def check(block: EventBlock, records: Sequence[Any], namespace: str) -> None:
    """Everything in the block is what Python makes of the same messages."""
    decoded = [decode(records[at], namespace) for at in block.positions]
    began = [0, *block.ends][: len(block)]

    assert list(block.ids) == [one.event.id for one in decoded]
    assert [block.rows[a:b] for a, b in zip(began, block.ends, strict=True)] == list(
        map(row, decoded)
    )
    assert block.traces == b"".join(map(remembered, decoded))
    assert all(one.time_is_derived for one in decoded)


@given(st.integers(0, 2**64), st.sampled_from((0.01, 0.05, 0.3)), st.sampled_from(("default", "ü")))
def test_what_is_read_at_once_is_what_python_reads_of_it(
    seed: int, oddness: float, namespace: str
) -> None:
    chance = random.Random(seed)
    records = [
        Produced(
            message(chance, at, oddness=oddness),
            offset=7 * at,
            partition=chance.randrange(3),
            timestamp=chance.randrange(2**42),
        )
        for at in range(20)
    ]

    check(read_block(records, namespace), records, namespace)


def test_what_is_odd_in_one_thing_is_read_as_python_reads_it_or_not_at_once() -> None:
    records = [Produced(one, at) for at, one in enumerate(one_odd_thing_at_a_time())]

    block = read_block(records, "default")

    assert len(records) / 4 < len(block) < len(records)
    check(block, records, "default")


@pytest.mark.parametrize(
    ("timestamp", "count"),
    [(-1, 0), (0, 1), (1_700_000_000_001, 1), (LATEST_MS - 1, 1), (LATEST_MS, 0)],
)
def test_a_message_of_any_time_is_read_as_python_reads_it(timestamp: int, count: int) -> None:
    records = [Produced(message(random.Random(0), 1, oddness=0), 1, timestamp=timestamp)]

    block = read_block(records, "default")

    assert len(block) == count
    check(block, records, "default")


def test_most_of_what_is_near_the_plugins_form_is_read_at_once() -> None:
    chance = random.Random(1)
    records = [Produced(message(chance, at, oddness=0.01), at) for at in range(1_000)]

    assert 700 < len(read_block(records, "default")) < 1_000


def test_what_the_plugin_spools_of_recorded_calls_is_read_at_once(tmp_path: Path) -> None:
    records = [Produced(one, at) for at, one in enumerate(spooled(tmp_path))]

    block = read_block(records, "default")

    assert list(block.positions) == list(range(len(records)))
    check(block, records, "default")


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(Produced(None, 1), id="nothing"),
        pytest.param(Produced(b"", 1), id="empty"),
        pytest.param(
            Produced(message(random.Random(0), 1, oddness=0), 1, headers=(("namespace", b"b"),)),
            id="with a header",
        ),
    ],
)
def test_a_message_that_is_not_the_plugins_own_is_left_to_python(odd: Produced) -> None:
    usual = Produced(message(random.Random(0), 2, oddness=0), 2)

    assert list(read_block([odd, usual], "default").positions) == [1]


def test_a_block_without_some_events_is_the_block_of_the_others() -> None:
    chance = random.Random(2)
    records = [Produced(message(chance, at, oddness=0), at) for at in range(10)]
    dropped = {0, 4, 9}

    block = read_block(records, "default").without(dropped)

    assert list(block.positions) == [at for at in range(10) if at not in dropped]
    check(block, records, "default")
