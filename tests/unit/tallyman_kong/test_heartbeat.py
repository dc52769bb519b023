"""What a node says of its spool, however much is set aside or was."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallyman.domain.event import parse_event
from tallyman_kong.heartbeat import event_of
from tallyman_kong.spool import Group, Spool

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
EVENT = {"data": {"outcome": "complete", "usage_source": "provider"}}


@pytest.mark.parametrize("begun_behind", [0, 9 * 10**14])
def test_a_heartbeat_is_taken_however_many_numbers_are_set_aside_and_gives_none_for_lost(
    tmp_path: Path, begun_behind: int
) -> None:
    """5,000 numbers, no two of them beside each other; all others have arrived."""
    (tmp_path / "spool.db.sequence").write_text(json.dumps({"kong-1": begun_behind}))
    spool = Spool(tmp_path / "spool.db", "kong-1", max_bytes=10**9)
    spool.append(Group([("sink", EVENT)] * 10_001, 10_001))
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
        connection.execute(
            "INSERT INTO set_aside (sink, set_aside_at, reason, body) "
            "SELECT sink, 0, 'status 400', body FROM event WHERE position % 2 = 0"
        )
        connection.execute("DELETE FROM event")

    [state] = spool.states()
    parsed = parse_event(event_of(state, NOW).encode())

    said = json.loads(bytes(parsed.data))
    named = {
        number for first, last in said["set_aside_ranges"] for number in range(first, last + 1)
    }
    aside = {begun_behind + number for number in range(2, 10_001, 2)}
    assert (said["set_aside"], said["newest"]) == (5_000, begun_behind + 10_001)
    assert len(named) > 1_000
    assert named <= aside
    assert min(aside - named) == said["oldest"]
