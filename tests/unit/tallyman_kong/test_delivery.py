"""A sink's delivery from a real spool, where the sink refuses more than can be set aside."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from tallyman_kong import delivery, spool
from tallyman_kong.delivery import Delivery, Refused, SpoolAccess
from tallyman_kong.metrics import GIVEN_UP, SET_ASIDE
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool, Spooled

from tests.rigs.plugin import until

SINK = HttpSink("sink", "http://collector")
DATA = {"tokens": 1, "outcome": "complete", "usage_source": "provider"}


class Collector:
    """Takes a batch, or refuses it whole for one event of it."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refuses: Callable[[str], bool] = lambda name: name.startswith("poison")
        self.refusals = 0

    async def send(self, events: Sequence[Spooled]) -> None:
        names = [json.loads(event.body)["id"] for event in events]
        if any(self.refuses(name) for name in names):
            self.refusals += 1
            raise Refused("status 400")
        self.taken += names

    async def close(self) -> None:
        pass


class Node:
    """A node's spool, and the delivery to its collector."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.collector = Collector()
        self.spool = Spool(path, "kong-1", max_bytes=64_000_000)

    def call(self, *names: str) -> None:
        group = Group(entries=len(names), sinks={"sink": "{}"})
        group.events.extend(("sink", {"id": name, "data": DATA}) for name in names)
        assert self.spool.append(group)

    def waiting(self) -> list[str]:
        return [json.loads(event.body)["id"] for event in self.spool.read("sink", 1000, 10**9)]

    async def deliver(self, heartbeat_seconds: float = 0.0) -> None:
        """Deliver until the test ends."""
        access = SpoolAccess(Spool(self.path))
        self._delivery = Delivery(access, SINK, lambda _: self.collector, heartbeat_seconds)
        self._task = asyncio.create_task(self._delivery.run())

    async def stop(self) -> None:
        self._delivery.stop()
        await self._task


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(spool, "MOST_SET_ASIDE", 2)
    started = Node(tmp_path / "spool.db")
    yield started
    await started.stop()


async def test_when_no_more_can_be_set_aside_other_calls_still_arrive_and_the_rest_is_counted(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.call("poison-1", "poison-2", "poison-3", "good-4", "poison-5", "good-6")

    await node.deliver()
    await until(lambda: node.waiting() == [])

    assert node.collector.taken == ["good-4", "good-6"]
    figures = node.spool.figures()
    assert (figures.counts[SET_ASIDE.of()], figures.counts[GIVEN_UP.of()]) == (2, 2)
    [state] = node.spool.states()
    assert (state.newest, state.set_aside_ranges) == (6, ((1, 2),))
    assert [line for line in caplog.messages if "given up" in line and "poison-3" in line]


async def test_a_sink_that_takes_nothing_at_all_is_waited_for_and_nothing_is_given_up(
    node: Node,
) -> None:
    node.collector.refuses = lambda _: True
    node.call("a", "b", "c", "d")

    await node.deliver()
    await until(lambda: node.collector.refusals > 20)
    assert node.waiting() == ["c", "d"]
    assert GIVEN_UP.of() not in node.spool.figures().counts
    node.collector.refuses = lambda _: False
    await until(lambda: node.waiting() == [])

    assert sorted(node.collector.taken) == ["c", "d"]
    assert GIVEN_UP.of() not in node.spool.figures().counts


async def test_what_was_refused_just_before_the_sink_was_mended_is_not_given_up(
    node: Node,
) -> None:
    node.collector.refuses = lambda _: node.collector.refusals < 6  # of 7 that a batch of 4 makes
    node.call("a", "b", "c", "d")

    await node.deliver()
    await until(lambda: node.waiting() == [])

    assert node.spool.figures().counts.get(GIVEN_UP.of(), 0) == 0
    assert sorted(node.collector.taken) == ["c", "d"]


async def test_what_alone_is_refused_is_given_up_when_the_sink_has_taken_another(
    node: Node,
) -> None:
    node.call("poison-1", "poison-2", "poison-3")

    await node.deliver()
    await until(lambda: node.collector.refusals > 20)
    assert node.waiting() == ["poison-3"]
    node.call("good-4")
    await until(lambda: node.waiting() == [])

    assert node.collector.taken == ["good-4"]


async def test_what_an_older_version_set_aside_is_within_the_bound_in_bytes(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MOST_SET_ASIDE_BYTES", 1_000)
    with closing(sqlite3.connect(node.path)) as connection, connection:
        connection.execute(
            "INSERT INTO set_aside (sink, set_aside_at, reason, body) VALUES ('sink', 0, '', ?)",
            ("x" * 950,),
        )
    node.call("poison-1", "good-2")

    await node.deliver()
    await until(lambda: node.waiting() == [])

    assert node.spool.figures().counts[GIVEN_UP.of()] == 1


async def test_a_heartbeat_that_is_refused_is_an_error(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.collector.refuses = lambda name: name.startswith("kong-1:")
    node.call("a")

    await node.deliver(heartbeat_seconds=0.05)
    await until(lambda: node.collector.refusals)
    await until(lambda: "refuses heartbeats" in caplog.text)

    assert {record.levelname for record in caplog.records} == {"ERROR"}
