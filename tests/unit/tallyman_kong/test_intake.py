"""The queue between the hub and the spool: its bound, and what becomes of what it refuses."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tallyman_kong import usage
from tallyman_kong.intake import LARGEST_GROUP, OVERHEAD_BYTES, Intake, reader
from tallyman_kong.logs import REPEAT_SECONDS, Seldom
from tallyman_kong.metrics import BAD_ENTRIES, ENTRIES, REFUSED
from tallyman_kong.sink import HttpSink, Sink
from tallyman_kong.spool import Spool

from tests.rigs.plugin import entry, ids_of

READER = reader(usage.configuration(None), HttpSink("sink", "http://127.0.0.1:9/events"))


def test_what_is_over_the_queues_bound_is_refused_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool.db", "kong-1", max_bytes=10**9)
    texts = [json.dumps(entry(f"r-{number}")) for number in range(10)]
    room = sum(len(text) + OVERHEAD_BYTES for text in texts[:4])
    intake = Intake(spool, max_bytes=room)

    for text in texts:
        intake.offer(text, READER)
    intake.start()
    intake.stop(within_seconds=30)

    spooled = [json.loads(event.body)["id"] for event in spool.read(READER.sink.name, 100, 10**9)]
    assert spooled == ids_of(f"r-{number}" for number in range(4))
    assert spool.figures().counts[REFUSED.of(reason="queue_full")] == 6
    assert spool.figures().counts[ENTRIES.of()] == 4
    assert "the queue was full: 6 log entries refused" in caplog.messages


def test_what_a_stop_gives_up_is_counted_with_what_was_refused_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk takes no events any more, but has room for a count."""
    path = tmp_path / "spool.db"
    spool = Spool(path, "kong-1", max_bytes=10**9)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT there_is_no_room(); END"
        )
    texts = [json.dumps(entry(f"r-{number}")) for number in range(LARGEST_GROUP + 10)]
    texts.insert(-4, "no entry")
    intake = Intake(spool, max_bytes=sum(len(text) + OVERHEAD_BYTES for text in texts[:-4]))

    for text in texts:
        intake.offer(text, READER)
    intake.refuse("no_entry")
    intake.start()
    intake.stop(within_seconds=0)

    counts = spool.figures().counts
    assert {count: value for count, value in counts.items() if value} == {
        ENTRIES.of(): LARGEST_GROUP + 7,
        BAD_ENTRIES.of(): 1,
        REFUSED.of(reason="stopping"): LARGEST_GROUP + 6,
        REFUSED.of(reason="queue_full"): 4,
        REFUSED.of(reason="no_entry"): 1,
    }
    assert f"{LARGEST_GROUP} log entries are lost at the stop" in caplog.messages
    assert "6 log entries are lost at the stop" in caplog.messages


def test_an_entry_that_fails_unforeseen_is_counted_also_where_it_is_the_last(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "spool.db", "kong-1", max_bytes=10**9)

    def fail(sink: Sink) -> None:
        raise RuntimeError(sink.name)

    intake = Intake(spool, max_bytes=10**9, announce=fail)
    intake.offer(json.dumps(entry("r-1")), READER)
    intake.add_sink(READER.sink)
    intake.start()
    intake.stop(within_seconds=30)

    assert spool.figures().counts[REFUSED.of(reason="error")] == 1


def test_a_message_is_logged_seldom_and_says_how_often_it_was_held_back() -> None:
    seldom = Seldom()
    record = logging.LogRecord("name", logging.ERROR, "", 0, "event %d", (1,), None)

    def logged(at: float) -> str | None:
        again = logging.makeLogRecord({**record.__dict__, "created": at})
        return again.getMessage() if seldom.filter(again) else None

    times = (0.0, 1.0, 2.0, REPEAT_SECONDS, REPEAT_SECONDS + 1)
    assert [logged(at) for at in times] == [
        "event 1",
        None,
        None,
        "event 1 (and 2 more since)",
        None,
    ]
