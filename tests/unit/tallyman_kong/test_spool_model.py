"""The spool against a list: whatever is appended, acknowledged, set aside and restarted."""

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tallyman_kong.metrics import EVENTS
from tallyman_kong.spool import Group, Spool

EVERYTHING = 10**9
DATA = {"tokens": 1, "outcome": "complete", "usage_source": "provider"}


class SpoolModel(RuleBasedStateMachine):
    """Two processes' connections, as in a rolling restart; either may do anything."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.open = [self._open(), self._open()]
        self.appended = 0
        self.waiting: list[tuple[str, str]] = []
        self.aside: list[tuple[str, str]] = []

    def _open(self) -> Spool:
        return Spool(self.folder / "spool.db", "kong-1", max_bytes=EVERYTHING)

    @rule(which=st.integers(0, 1), count=st.integers(1, 5), sink=st.sampled_from("ab"))
    def append(self, which: int, count: int, sink: str) -> None:
        names = [f"e-{self.appended + number}" for number in range(1, count + 1)]
        group = Group(entries=count, sinks={sink: "{}"})
        group.events.extend((sink, {"id": name, "data": DATA}) for name in names)

        assert self.open[which].append(group)
        self.appended += count
        self.waiting += [(sink, name) for name in names]

    @rule(which=st.integers(0, 1), count=st.integers(0, 7), sink=st.sampled_from("ab"))
    def acknowledge(self, which: int, count: int, sink: str) -> None:
        batch = self.open[which].read(sink, count, EVERYTHING) if count else []
        self.open[which].acknowledge([event.position for event in batch], "http")
        for _ in batch:
            self.waiting.remove(next(one for one in self.waiting if one[0] == sink))

    @rule(which=st.integers(0, 1), sink=st.sampled_from("ab"))
    def set_aside(self, which: int, sink: str) -> None:
        for event in self.open[which].read(sink, 1, EVERYTHING):
            assert self.open[which].set_aside(event.position, "status 400")
            poison = next(one for one in self.waiting if one[0] == sink)
            self.waiting.remove(poison)
            self.aside.append(poison)

    @rule(which=st.integers(0, 1))
    def return_set_aside(self, which: int) -> None:
        assert self.open[which].return_set_aside() == len(self.aside)
        self.waiting = sorted(self.waiting + self.aside, key=lambda one: int(one[1][2:]))
        self.aside = []

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.open[which].close()
        self.open[which] = self._open()

    @invariant()
    def what_is_read_is_what_waits_in_order_under_its_number(self) -> None:
        for sink in "ab":
            bodies = [json.loads(e.body) for e in self.open[0].read(sink, 10**6, EVERYTHING)]
            names = [name for at, name in self.waiting if at == sink]

            assert [body["id"] for body in bodies] == names
            assert [f"e-{int(body['sequence'])}" for body in bodies] == names
        figures = self.open[1].figures()
        counted = figures.counts.get(EVENTS.of(outcome="complete", usage_source="provider"), 0)
        oldest = min((int(name[2:]) for _, name in self.waiting), default=None)
        assert [state.oldest for state in self.open[1].states()] == [oldest][: self.appended]
        assert (figures.waiting, counted) == (len(self.waiting), self.appended)

    def teardown(self) -> None:
        for spool in self.open:
            spool.close()
        shutil.rmtree(self.folder)


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(
    max_examples=settings().max_examples // 4, stateful_step_count=20, deadline=None
)
