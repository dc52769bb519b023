"""What was acknowledged is there, whatever is killed and whatever fails."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallyman.domain.event import parse_event
from tallyman.errors import Unavailable
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore, Received

from tests.rigs.clickhouse import Shim

ROOT = Path(__file__).parents[3]
SIZE = 40


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.store.{program}", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": "collector:plugin:."},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("acknowledgements", "remembers"),
    [(1, "at once"), (12, "at once"), (1, "alone"), (12, "alone")],
)
def test_every_acknowledged_event_survives_kill_9_and_is_known_when_sent_again(
    tmp_path: Path, acknowledgements: int, remembers: str
) -> None:
    with run("accepting", str(tmp_path), str(SIZE), remembers) as accepting:
        assert accepting.stdout is not None
        for _ in range(acknowledgements):
            assert accepting.stdout.readline()
        accepting.kill()
        acknowledged = acknowledgements + len(accepting.stdout.readlines())
    with run("reopening", str(tmp_path), str(SIZE), str(acknowledged)) as reopening:
        assert reopening.stdout is not None
        report = json.load(reopening.stdout)

    expected = {f"{number}-{one}" for number in range(acknowledged) for one in range(SIZE)}
    assert expected <= set(report["stored"])
    assert report["known"] == [SIZE] * acknowledged
    assert report["count"] in (len(expected), len(expected) + SIZE)  # one batch may be under way


@pytest.mark.parametrize("clickhouse", ["embedded"], indirect=True)
async def test_embedded_an_insert_is_on_the_disk_when_it_is_done(clickhouse: ClickHouse) -> None:
    """A power failure cannot be made here: it is looked up in the table."""
    [[engine]] = await clickhouse.rows(
        "SELECT engine_full FROM system.tables "
        "WHERE database = currentDatabase() AND name = 'events'"
    )

    assert {"fsync_after_insert = 1", "fsync_part_directory = 1"} <= set(
        str(engine).partition(" SETTINGS ")[2].split(", ")
    )


def received(namespace: str, id_: str, at: datetime) -> Received:
    body = {"id": id_, "source": "s", "type": "t", "subject": "acme"}
    return Received(namespace, parse_event(json.dumps(body).encode()), at)


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_an_insert_that_failed_is_unavailable_and_its_retry_counts_once(
    clickhouse_shim: Shim, clickhouse_database: str, namespace: str, fault: str
) -> None:
    address = clickhouse_shim.address
    clickhouse = ClickHouse.server(
        f"http://default:@{address.host}:{address.port}/{clickhouse_database}"
    )
    store = EventStore(clickhouse)
    await store.migrate()
    now = datetime.now(UTC)
    await store.accept([received(namespace, "0", now)])

    clickhouse_shim.fail_inserts(**{fault: 1})
    with pytest.raises(Unavailable):
        await store.accept([received(namespace, "1", now)])
    again = await store.accept([received(namespace, "1", now + timedelta(minutes=9))])

    assert (again.new, again.known) == ((1, 0) if fault == "before" else (0, 1))
    assert len((await store.list_events(namespace)).events) == 2
    await clickhouse.close()


async def test_a_server_that_is_away_is_unavailable_and_then_well_again(
    clickhouse_shim: Shim, clickhouse_database: str, namespace: str
) -> None:
    address = clickhouse_shim.address
    clickhouse = ClickHouse.server(
        f"http://default:@{address.host}:{address.port}/{clickhouse_database}"
    )
    store = EventStore(clickhouse)
    await store.migrate()
    clickhouse_shim.kill()

    with pytest.raises(Unavailable):
        await store.ping()
    with pytest.raises(Unavailable):
        await store.accept([received(namespace, "1", datetime.now(UTC))])

    clickhouse_shim.start()

    await store.ping()
    assert (await store.accept([received(namespace, "1", datetime.now(UTC))])).new == 1
    await clickhouse.close()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        ClickHouse.server("http://default:@127.0.0.1:1/x", connect_timeout_seconds=1)


async def test_bad_sql_is_a_bug_and_not_unavailable(clickhouse: ClickHouse) -> None:
    with pytest.raises(Exception, match="nowhere") as caught:
        await clickhouse.rows("SELECT * FROM nowhere")

    assert not isinstance(caught.value, Unavailable)
