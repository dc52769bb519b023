"""What `tallyman serve` does by itself, without being asked: the rollup is refreshed, and everything reconciled."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tallyman import data_directory
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman_kong.heartbeat import SpoolState, event_of

from tests.integration.api.serving import Server, serving, tallyman
from tests.rigs.stream import WAIT_SECONDS, usage

EVENTS = "/api/v3/openmeter/events"
NOW = datetime.now(UTC)
OFTEN = {
    "TALLYMAN_RECONCILE_INTERVAL_SECONDS": "1",
    "TALLYMAN_ROLLUP_INTERVAL_SECONDS": "1",
    "TALLYMAN_BILLING_SETTLE_SECONDS": "0",
}


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [
        {
            **json.loads(usage(number)),
            "time": (NOW - timedelta(hours=2)).isoformat(),
            "nodeid": "kong-1",
            "sequence": f"{number:018d}",
        }
        for number in numbers
    ]


def said() -> dict[str, Any]:
    """A node that has given four numbers, and has none left to send."""
    state = SpoolState(
        node="kong-1",
        first=1,
        newest=4,
        oldest=None,
        waiting=0,
        set_aside=0,
        set_aside_ranges=(),
        refused=0,
        bad=0,
        sinks=1,
    )
    beat: dict[str, Any] = json.loads(event_of(state, NOW))
    return beat


def send(server: Server, key: str, *events: dict[str, Any]) -> float:
    """When they were stored at the latest."""
    assert server.ask("POST", EVENTS, key, json.dumps(events))[0] == 202
    return time.time()


def wait_until(server: Server, key: str, metric: str, least: float, most: float) -> None:
    """Wait until the server's metric is between the two."""
    deadline = time.monotonic() + WAIT_SECONDS
    value = -1.0
    while not least <= value <= most:
        assert time.monotonic() < deadline, f"{metric} is {value}"
        time.sleep(0.1)
        page = server.ask("GET", "/metrics", key)[1]
        found = re.search(rf"(?m)^{re.escape(metric)} (\S+)$", page)
        value = float(found[1]) if found else -1.0  # what was not looked at yet is not there


def test_a_server_refreshes_the_rollup_and_says_what_is_missing_by_itself(tmp_path: Path) -> None:
    lost = 'tallyman_missing{kind="lost"}'
    with serving(tmp_path, **OFTEN) as server:
        key = server.hear(r"(tm_\S+)")[1]
        at = send(server, key, *numbered(1, 2, 4), said())
        wait_until(server, key, "tallyman_rollup_timestamp_seconds", at, time.time() + WAIT_SECONDS)
        wait_until(server, key, lost, 1, 1)
        while_missing = tallyman(tmp_path, "status")
        at = send(server, key, *numbered(3))
        wait_until(server, key, lost, 0, 0)
        wait_until(
            server, key, "tallyman_reconciled_timestamp_seconds", at, time.time() + WAIT_SECONDS
        )
        _, log = server.stop()

    assert "UTC: 1 missing" in while_missing.stdout
    assert "1 are missing since" in log
    assert "hours of the rollup" not in log


def test_a_reconciliation_that_fails_is_overdue_in_the_status(tmp_path: Path) -> None:
    asyncio.run(hide_what_was_dropped(tmp_path / "data"))
    with serving(tmp_path, **OFTEN) as server:
        server.hear("the reconciliation failed: DatabaseError")
        deadline = time.monotonic() + WAIT_SECONDS
        while "overdue" not in (status := tallyman(tmp_path, "status", **OFTEN).stdout):
            assert time.monotonic() < deadline, status

    assert "not yet; `tallyman reconcile` does it now; overdue: the server's log says why" in status


async def hide_what_was_dropped(directory: Path) -> None:
    """A table that a reconciliation reads, and nothing else does."""
    data_directory.create(directory)
    clickhouse = ClickHouse.embedded(str(data_directory.events_path(directory)))
    await EventStore(clickhouse).migrate()
    await clickhouse.command("RENAME TABLE dropped TO hidden")
    await clickhouse.close()
