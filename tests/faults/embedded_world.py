"""A node and an embedded collector from first call to last reconciliation, to be killed anywhere.

Some calls are replayed before they are sent, and so are known by their id alone too. Calls are spooled and sent; some
are set aside and returned, the spool file is spoilt, an event is lost. What has arrived by then is looked at before
the whole log is replayed, which makes good whatever plugin or sender lose. One that was replayed is taken away; then
the log is replayed and everything is reconciled, and the rollup is refreshed again and again. In the end the
meters, which are asked of the rollup, must have each call once, and nothing may be missing but what was taken away.

`python -m tests.faults.embedded_world FOLDER SEED` takes faults on standard input.
"""

import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tallyman import connections
from tallyman.config import Settings
from tallyman.domain.event import parse_event
from tallyman.kong_entry import events_of
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.customers import CustomerStore
from tallyman.store.events import EventStore, Received
from tallyman.store.rollup import Rollup
from tallyman.stream.group_commit import GroupCommit
from tallyman.stream.reconcile import Reconciliation
from tallyman.stream.reconcile_nodes import MadeGood
from tallyman.stream.replay import Direct
from tallyman_kong import heartbeat
from tallyman_kong.delivery import Refused, SpoolAccess, event_id
from tallyman_kong.intake import read_entry, reader
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool, Spooled
from tallyman_kong.usage import configuration

from tests.faults.arrived import DELIVERIES, arrived, tokens_of
from tests.faults.forked import serve
from tests.faults.traffic import Call, calls, expected, groups

CALLS, IN_A_GROUP = 21, 3
POISON, TAKEN_AWAY = 4, 1  # the numbers of a call
SINK = HttpSink("sink-1", "http://collector/events")
NODE = "kong-1"
PLUGIN = configuration(None)


def group_of(these: Sequence[Call]) -> Group:
    """What the plugin makes of entries of the log."""
    group = Group()
    for call in these:
        read_entry(call.line, reader(PLUGIN, SINK), group)
    return group


class World:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        begin = datetime.fromtimestamp(float((folder / "began").read_text()), UTC)
        self.seed, self.begin = seed, begin
        self.calls = calls(seed, CALLS, begin)
        self.groups = groups(self.calls, IN_A_GROUP)
        self.spool = self.open_spool()
        self.robbed = folder / "robbed"

    def open_spool(self) -> Spool:
        spool = Spool(self.folder / "spool.db", NODE, max_bytes=10**9, survives_power_loss=True)
        spool.check()
        return spool

    def first_time(self, what: str) -> bool:
        """Whether this was not begun in an earlier life; from now on it was."""
        mark = self.folder / f"begun-{what}"
        is_first = not mark.exists()
        mark.touch()
        return is_first

    def call_kong(self, numbers: Sequence[int]) -> None:
        """Kong hands each group over once, and never again, whatever becomes of it."""
        for number in numbers:
            if self.first_time(f"group-{number}"):
                self.spool.append(group_of(self.groups[number]))
                self.first_time(f"appended-{number}")

    async def deliver(self, store: GroupCommit) -> None:
        spool = SpoolAccess(self.spool)
        made = DELIVERIES[os.environ.get("BUG", "")]
        delivery = made(spool, SINK, lambda _: Collector(self, store))
        delivery.stop()
        await delivery.run()

    def spoil_the_spool(self) -> None:
        """What was in it is sent: nothing is lost but numbers."""
        if self.first_time("spoiling"):
            self.spool.close()
            path = self.folder / "spool.db"
            for rest in ("-wal", "-shm"):
                path.with_name(path.name + rest).unlink(missing_ok=True)
            path.write_bytes(b"no database" * 500)
            self.spool = self.open_spool()

    def lose_one(self) -> None:
        """Acknowledge an event that was never sent, as no sender does."""
        if self.first_time("losing"):
            lost = self.spool.read(SINK.name, 1, 10**6)
            (self.folder / "losing").write_text("".join(event_id(event) for event in lost))
            self.spool.acknowledge([event.position for event in lost], "http")

    def may_lack(self) -> set[str]:
        """Ids of what stood in an append that was killed, and of what was lost on purpose."""
        killed = (
            self.groups[number]
            for number in range(len(self.groups))
            if not (self.folder / f"begun-appended-{number}").exists()
        )
        ids = {name for these in killed for call in these for name in call.tokens_by_id}
        return ids | {(self.folder / "losing").read_text()}

    async def look_at_what_arrived(self, clickhouse: ClickHouse) -> None:
        """Keep it, once, before anything is made good."""
        seen = self.folder / "arrived"
        if seen.exists():
            return
        looked = await arrived(clickhouse, self.calls, self.may_lack())
        whole = seen.with_suffix(".new")
        whole.write_text(json.dumps(looked["arrived"]))
        whole.rename(seen)

    async def rob(self, clickhouse: ClickHouse) -> None:
        """Take an event away behind everybody's back, if it came in before this.

        It goes on where it was killed: how many are taken is said before, and that it is done behind it.
        """
        said = self.folder / "taken-away"
        which = f"FROM events WHERE id = 'call-{self.seed}-{TAKEN_AWAY}:proxy:request'"
        if not said.exists():
            rows = await clickhouse.rows(f"SELECT uniqExact(id) {which}")
            whole = said.with_suffix(".new")
            whole.write_text(str(rows[0][0]))
            whole.rename(said)
        if int(said.read_text()):
            await clickhouse.command(f"DELETE {which}")
        self.robbed.touch()


class Collector:
    """The collector as the sender knows it: it refuses one call until it is mended."""

    def __init__(self, world: World, store: GroupCommit) -> None:
        self._world = world
        self._store = store

    async def send(self, events: Sequence[Spooled]) -> None:
        poison = f"call-{self._world.seed}-{POISON}:"
        is_mended = (self._world.folder / "begun-mending").exists()
        if not is_mended and any(poison in event.body for event in events):
            raise Refused("status 400")
        now = datetime.now(UTC)
        parsed = [parse_event(event.body.encode()) for event in events]
        await self._store.accept([Received("default", event, now) for event in parsed])

    async def close(self) -> None:
        pass


async def prepare(folder: Path, _seed: int) -> dict[str, Any]:
    """The tables, and when it all began."""
    settings = Settings(data_dir=folder)
    clickhouse, database = (
        connections.open_clickhouse(settings),
        connections.open_database(settings),
    )
    await EventStore(clickhouse).migrate()
    await database.migrate()
    await database.close()
    await clickhouse.close()
    (folder / "began").write_text(str(int(datetime.now(UTC).timestamp()) - 3600))
    return {}


async def live(folder: Path, seed: int) -> dict[str, Any]:
    """From wherever the last life ended to the end."""
    logging.getLogger("tallyman_kong").setLevel(logging.CRITICAL)
    world = World(folder, seed)
    settings = Settings(data_dir=folder, billing_settle_seconds=0)
    clickhouse, database = (
        connections.open_clickhouse(settings),
        connections.open_database(settings),
    )
    store, rollup = EventStore(clickhouse, alone=True), Rollup(clickhouse)
    await store.migrate()
    reconciliation = connections.reconciliation(settings, clickhouse, CustomerStore(database))
    if not world.robbed.exists():
        await _replay(store, world.calls[: TAKEN_AWAY + 1])
    async with GroupCommit(store) as group_commit:
        await _send(world, group_commit)
        await rollup.refresh()
        await world.look_at_what_arrived(clickhouse)
        for state in world.spool.states():
            beat = parse_event(heartbeat.event_of(state, datetime.now(UTC)).encode())
            await group_commit.accept([Received("default", beat, datetime.now(UTC))])
        if not world.robbed.exists():
            # What is forgotten is forgotten of `seen`, not of what waits to be written there.
            await store.close()
            await world.rob(clickhouse)
        await _reconcile(reconciliation, None)
        await _replay(store, world.calls)
        await rollup.refresh()
        shown = MadeGood(NODE, world.begin - timedelta(1), world.begin + timedelta(1))
        await _reconcile(reconciliation, shown)
        report = await _reconcile(reconciliation, None)
    await rollup.refresh()
    found = {
        "arrived": json.loads((world.folder / "arrived").read_text()),
        "tokens": await tokens_of(store),
        "expected": expected(world.calls),
        "events": await usage_events(clickhouse),
        "lost": report.lost,
        "missing": report.missing,
        "taken_away": int((world.folder / "taken-away").read_text()),
        "lost_on_purpose": int(bool((world.folder / "losing").read_text())),
        "forgotten": report.forgotten,
        "waiting": len(world.spool.read(SINK.name, 100, 10**6)),
    }
    world.spool.close()
    await store.close()
    await database.close()
    await clickhouse.close()
    return found


async def _send(world: World, store: GroupCommit) -> None:
    world.call_kong([0, 1, 2])
    await world.deliver(store)
    world.first_time("mending")
    world.spool.return_set_aside()
    await world.deliver(store)
    world.spoil_the_spool()
    world.call_kong([3, 4])
    await world.deliver(store)
    world.call_kong([5])
    world.lose_one()
    world.call_kong([6])
    await world.deliver(store)


async def _replay(store: EventStore, whose: Sequence[Call]) -> None:
    direct = Direct(store, "default")
    for these in groups(whose, 7):
        await direct.take([event for call in these for event in events_of(call.entry, PLUGIN)])


async def _reconcile(reconciliation: Reconciliation, made_good: MadeGood | None) -> Any:
    now = datetime.now(UTC) + timedelta(minutes=1)
    return await reconciliation.run(now, now - timedelta(days=1), made_good)


async def usage_events(clickhouse: ClickHouse) -> int:
    rows = await clickhouse.rows("SELECT count() FROM events FINAL WHERE type = 'llm.tokens'")
    return int(rows[0][0])


if __name__ == "__main__":
    serve(prepare, live)
