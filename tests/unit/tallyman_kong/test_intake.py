"""The queue between the hub and the spool: its bound, and what becomes of what it refuses."""

import json
import logging
from pathlib import Path

import pytest
from tallyman_kong import usage
from tallyman_kong.intake import OVERHEAD_BYTES, Intake, reader
from tallyman_kong.logs import REPEAT_SECONDS, Seldom
from tallyman_kong.metrics import ENTRIES, REFUSED
from tallyman_kong.sink import HttpSink
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
