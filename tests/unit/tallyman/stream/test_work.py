"""A batch is told apart: what is read at once, what one by one, and what is no event."""

import random
from typing import Any

import pytest
from tallyman.store.event_block import IS_BUILT
from tallyman.stream.batch import Batch, BatchLimits
from tallyman.stream.work import Work

from tests.rigs.plugin_form import Produced, message
from tests.rigs.stream import usage

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the event reader is not built: no cargo")


def plugins(number: int, seed: int = 0) -> bytes:
    return message(random.Random(seed), number, oddness=0)


def written_otherwise(value: bytes) -> bytes:
    """The same event with an escape, which is read one by one."""
    return value.replace(b'"specversion"', b'"specv\\u0065rsion"')


def work_of(*values: bytes) -> Work:
    batch = Batch(0, BatchLimits())
    batch.add([Produced(value, offset) for offset, value in enumerate(values)])
    return Work.check(batch, "default")


def offsets(work: Work) -> tuple[list[int], list[int], list[int]]:
    """Of the block, of the events, of what is set aside."""
    return (
        list(work.block.positions),
        [record.offset for record, _ in work.events],
        [one.record.offset for one in work.rejected],
    )


def test_each_message_goes_one_way() -> None:
    work = work_of(plugins(1), b"no event", written_otherwise(plugins(2)), plugins(3))

    assert offsets(work) == ([0, 3], [2], [1])


def test_of_the_events_of_a_test_each_second_one_is_read_at_once() -> None:
    """So what is tested with them is tested both ways."""
    assert offsets(work_of(*map(usage, range(6)))) == ([0, 2, 4], [1, 3, 5], [])


@pytest.mark.parametrize("turn", [1, -1])
def test_two_messages_with_one_id_go_the_same_way_in_their_order(turn: int) -> None:
    first, second = [plugins(1), written_otherwise(plugins(1, seed=1))][::turn]

    work = work_of(plugins(2), first, plugins(3), second)

    assert offsets(work) == ([0, 2], [1, 3], [])


def test_what_is_twice_in_a_batch_is_read_one_by_one() -> None:
    work = work_of(plugins(1), plugins(2), plugins(1), plugins(3))

    assert offsets(work) == ([1, 3], [0, 2], [])


def test_every_id_of_a_batch_is_known_before_it_is_stored() -> None:
    work = work_of(plugins(1), written_otherwise(plugins(2)))

    assert work.ids == {f"{number:032x}:proxy:request" for number in (1, 2)}


def test_what_an_opened_block_leaves_is_among_the_events() -> None:
    work = work_of(plugins(1), written_otherwise(plugins(2)), plugins(3), plugins(4))

    work.open_block([0, 2])

    assert offsets(work) == ([], [1, 0, 3], [])
    assert {received.place for _, received in work.events} == {0, 1, 3}


def test_what_cannot_be_read_at_once_for_a_bug_of_it_is_read_one_by_one() -> None:
    """A message of an old broker has no time, which its signature does not allow."""
    batch = Batch(0, BatchLimits())
    timeless: Any = None
    batch.add([Produced(plugins(1), 0), Produced(plugins(2), 1, timestamp=timeless)])

    work = Work.check(batch, "default")

    assert offsets(work) == ([], [0], [1])
