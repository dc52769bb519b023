"""Many requests, one store: each caller gets its own answer, and nobody pays for another."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.event import CloudEvent
from tallyman.errors import InvalidEvent, Unavailable
from tallyman.store.events import Accepted, Received
from tallyman.stream.group_commit import GroupCommit, GroupLimits

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def event(name: str) -> Received:
    return Received("default", CloudEvent(id=name, source="kong", type="t", subject="s"), NOW)


class SlowStore:
    """A store of sets, with its own clock: it goes on when it is let, and refuses what is `bad`."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.groups: list[list[str]] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.away = False

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        names = [received.event.id for received in batch]
        self.groups.append(names)
        self.asked.set()
        await self.go.wait()
        if self.away:
            raise Unavailable("away")
        if "bad" in names:
            raise InvalidEvent("bad")
        known_at = []
        for position, name in enumerate(names):
            if name in self.kept:
                known_at.append(position)
            self.kept.add(name)
        return Accepted(len(names) - len(known_at), len(known_at), (), tuple(known_at))


async def test_what_comes_while_the_store_is_busy_is_stored_in_one_go() -> None:
    store = SlowStore()
    async with GroupCommit(store) as group:
        first = asyncio.create_task(group.accept([event("a")]))
        await store.asked.wait()
        rest = [asyncio.create_task(group.accept([event(f"b{n}")])) for n in range(50)]
        await asyncio.sleep(0)
        store.go.set()
        await asyncio.gather(first, *rest)

    assert [len(names) for names in store.groups] == [1, 50]


async def test_those_who_were_just_answered_are_waited_for() -> None:
    store = SlowStore()
    limits = GroupLimits(quiet_seconds=3600, gather_seconds=3600)
    async with GroupCommit(store, limits) as group:

        async def one_after_another(name: str) -> None:
            for number in range(3):
                await group.accept([event(f"{name}{number}")])

        first = asyncio.create_task(one_after_another("a"))
        await store.asked.wait()
        rest = [asyncio.create_task(one_after_another(name)) for name in "bc"]
        await asyncio.sleep(0)
        store.go.set()
        async with asyncio.timeout(20):
            await first
        sizes = [len(names) for names in store.groups]
        for task in rest:
            task.cancel()

    assert sizes == [1, 3, 3]


async def test_who_is_alone_waits_for_nobody() -> None:
    store = SlowStore()
    store.go.set()
    limits = GroupLimits(quiet_seconds=3600, gather_seconds=3600)
    async with GroupCommit(store, limits) as group, asyncio.timeout(20):
        for number in range(3):
            await group.accept([event(str(number))])

    assert len(store.groups) == 3


async def test_who_does_not_come_again_is_not_waited_for_for_ever() -> None:
    store = SlowStore()
    limits = GroupLimits(quiet_seconds=0.001, gather_seconds=0.002)
    async with GroupCommit(store, limits) as group, asyncio.timeout(20):
        first = asyncio.create_task(group.accept([event("a")]))
        await store.asked.wait()
        rest = [asyncio.create_task(group.accept([event(f"b{n}")])) for n in range(50)]
        await asyncio.sleep(0)
        store.go.set()
        await asyncio.gather(first, *rest)
        await group.accept([event("c")])

    assert [len(names) for names in store.groups] == [1, 50, 1]


async def test_a_caller_is_answered_only_when_the_store_has_its_events() -> None:
    store = SlowStore()
    async with GroupCommit(store) as group:
        call = asyncio.create_task(group.accept([event("a")]))
        await store.asked.wait()

        assert not call.done()
        store.go.set()
        assert await call == Accepted(1, 0)
        assert store.kept == {"a"}


async def test_a_duplicate_across_callers_of_one_group_is_new_to_one_and_known_to_the_other() -> (
    None
):
    store = SlowStore()
    store.go.set()
    async with GroupCommit(store) as group:
        answers = await asyncio.gather(
            group.accept([event("a"), event("b")]), group.accept([event("c"), event("a")])
        )

    assert len(store.groups) == 1
    assert list(answers) == [Accepted(2, 0), Accepted(1, 1, (), (1,))]


async def test_a_batch_that_is_refused_fails_only_its_caller() -> None:
    store = SlowStore()
    store.go.set()
    async with GroupCommit(store) as group:
        answers = await asyncio.gather(
            group.accept([event("a")]),
            group.accept([event("bad"), event("x")]),
            group.accept([event("b")]),
            return_exceptions=True,
        )

    assert [type(answer) for answer in answers] == [Accepted, InvalidEvent, Accepted]
    assert store.kept == {"a", "b"}


async def test_a_caller_that_goes_away_loses_nothing_for_the_others() -> None:
    store = SlowStore()
    async with GroupCommit(store) as group:
        calls = [asyncio.create_task(group.accept([event(name)])) for name in "abc"]
        await store.asked.wait()
        calls[1].cancel()
        store.go.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Accepted, asyncio.CancelledError, Accepted]
    assert {"a", "c"} <= store.kept


async def test_when_the_store_is_away_every_caller_of_the_group_is_told() -> None:
    store = SlowStore()
    store.away = True
    store.go.set()
    async with GroupCommit(store) as group:
        answers = await asyncio.gather(
            *(group.accept([event(name)]) for name in "abc"), return_exceptions=True
        )
        store.away = False
        assert await group.accept([event("d")]) == Accepted(1, 0)

    assert [type(answer) for answer in answers] == [Unavailable] * 3


async def test_more_than_can_wait_is_refused_within_the_patience() -> None:
    store = SlowStore()
    limits = GroupLimits(events=1, waiting_events=2, patience_seconds=0.05)
    async with GroupCommit(store, limits) as group:
        stuck = asyncio.create_task(group.accept([event("a")]))
        await store.asked.wait()
        waiting = asyncio.create_task(group.accept([event("b"), event("c")]))
        await asyncio.sleep(0)

        with pytest.raises(Unavailable, match="more events come in"):
            await group.accept([event("d")])

        store.go.set()
        await asyncio.gather(stuck, waiting)
    assert store.kept == {"a", "b", "c"}


async def test_what_was_handed_in_before_the_end_is_stored() -> None:
    store = SlowStore()
    group = GroupCommit(store)
    async with group:
        calls = [asyncio.create_task(group.accept([event(name)])) for name in "ab"]
        await store.asked.wait()
        store.go.set()
    await asyncio.gather(*calls)

    assert store.kept == {"a", "b"}
    with pytest.raises(Unavailable, match="stopping"):
        await group.accept([event("c")])


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5), max_size=12))
async def test_however_callers_share_events_each_new_one_is_new_to_exactly_one(
    batches: list[list[str]],
) -> None:
    store = SlowStore()
    store.go.set()
    async with GroupCommit(store, GroupLimits(events=7)) as group:
        answers = await asyncio.gather(
            *(group.accept([event(name) for name in batch]) for batch in batches)
        )

    distinct = {name for batch in batches for name in batch}
    assert sum(answer.new for answer in answers) == len(distinct)
    assert [answer.new + answer.known for answer in answers] == [len(batch) for batch in batches]
