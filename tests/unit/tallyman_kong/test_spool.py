"""The spool on a real file: numbers, bounds, corruption."""

import importlib
import json
import logging
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tallyman_kong import spool as spool_module
from tallyman_kong.metrics import EVENTS, REFUSED, SENT, SET_ASIDE, Count
from tallyman_kong.sequence_mark import RESERVED_BLOCK
from tallyman_kong.settings import settings
from tallyman_kong.spool import MOST_SET_ASIDE, Group, Spool, Spooled
from tallyman_kong.spool_file import SpoolError

MEGABYTE = 1_000_000
SETTINGS = '{"kind": "http"}'


def _open(path: Path, node: str = "kong-1", max_bytes: int = 64 * MEGABYTE) -> Spool:
    spool = Spool(path, node, max_bytes=max_bytes, survives_power_loss=True)
    spool.check()
    return spool


def _event(name: str, padding: str = "") -> dict[str, Any]:
    data = {"tokens": 1, "outcome": "complete", "usage_source": "provider", "padding": padding}
    return {"id": name, "subject": "acme", "data": data}


def _group(*names: str, sink: str = "sink", padding: str = "") -> Group:
    return Group(
        events=[(sink, _event(name, padding)) for name in names],
        entries=len(names),
        sinks={sink: SETTINGS},
    )


def _read(spool: Spool, sink: str = "sink", limit: int = 1000) -> list[Spooled]:
    return spool.read(sink, limit, 100 * MEGABYTE)


def _numbered(events: list[Spooled]) -> list[tuple[str, int]]:
    bodies = [json.loads(event.body) for event in events]
    return [(body["id"], int(body["sequence"])) for body in bodies]


def _positions(events: list[Spooled]) -> list[int]:
    return [event.position for event in events]


@pytest.mark.filterwarnings("ignore:'locale.getdefaultlocale'")  # of what the server imports
def test_what_the_server_appends_is_on_the_disk_before_it_goes_on(tmp_path: Path) -> None:
    """A power failure cannot be made here: it is asked of the server's connection."""
    server = importlib.import_module("tallyman_kong.server")
    spool = server.open_spool(settings({"spool": str(tmp_path / "spool.db")}, {}))

    synchronous = spool._file.read(
        lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0]
    )

    assert synchronous == 2  # FULL: an fsync for each commit
    spool.close()


def test_an_event_is_spooled_whole_with_its_node_and_number(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")

    spool.append(_group("a"))

    [event] = _read(spool)
    assert json.loads(event.body) == {
        "nodeid": "kong-1",
        "sequence": "000000000000000001",
        **_event("a"),
    }


def test_the_sequence_goes_on_after_a_restart_with_everything_acknowledged(tmp_path: Path) -> None:
    first = _open(tmp_path / "spool.db")
    first.append(_group("a", "b"))
    first.acknowledge(_positions(_read(first)), "http")
    first.close()
    second = _open(tmp_path / "spool.db")

    second.append(_group("c"))

    assert _numbered(_read(second)) == [("c", 3)]


def test_an_acknowledgement_deletes_exactly_what_it_names(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a", "b", "c"))
    a, b, c = _read(spool)

    spool.acknowledge([a.position, c.position], "http")

    assert _read(spool) == [b]
    assert spool.figures().counts[SENT.of(sink="http")] == 2
    assert spool.figures().waiting == 1


def test_an_acknowledgement_with_gaps_leaves_what_is_in_them(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group(*"abcdefgh"))
    positions = _positions(_read(spool))

    spool.acknowledge([positions[at] for at in (6, 0, 1, 2, 4)], "http")

    assert [name for name, _ in _numbered(_read(spool))] == ["d", "f", "h"]
    assert spool.figures().waiting == 3


def test_events_are_read_oldest_first_by_sink_and_within_the_limits(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a", "b"))
    spool.append(_group("x", sink="other"))
    spool.append(_group("c", "d"))

    assert [name for name, _ in _numbered(_read(spool, limit=3))] == ["a", "b", "c"]
    assert _numbered(spool.read("other", 10, MEGABYTE)) == [("x", 3)]
    one = len(_read(spool)[0].body)
    assert len(spool.read("sink", 10, 2 * one)) == 2
    assert len(spool.read("sink", 10, 1)) == 1


@pytest.mark.parametrize("size", [1, 2, 7, 33, 300])
def test_events_of_a_group_of_any_size_are_all_spooled_in_order(tmp_path: Path, size: int) -> None:
    spool = _open(tmp_path / "spool.db")
    names = [f"e-{number}" for number in range(size)]

    spool.append(_group(*names))

    assert _numbered(_read(spool)) == list(zip(names, range(1, size + 1), strict=True))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\ud83d", id="half a surrogate pair"),
        pytest.param(2**70, id="a number beyond 64 bits"),
        pytest.param("Zoë", id="text beyond ASCII"),
    ],
)
def test_whatever_json_can_say_is_spooled_as_it_is(tmp_path: Path, value: Any) -> None:
    spool = _open(tmp_path / "spool.db")
    event = {**_event("a"), "subject": value}

    spool.append(Group(events=[("sink", event)], entries=1, sinks={"sink": SETTINGS}))

    [read] = _read(spool)
    assert json.loads(read.body)["subject"] == value


def test_the_limit_of_a_batch_is_in_bytes_not_in_characters(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a", "b", padding="ë" * 1000))
    one = len(_read(spool)[0].body)

    assert len(spool.read("sink", 10, 2 * one)) == 1
    assert len(spool.read("sink", 10, 2 * one + 2000)) == 2


def test_writers_that_begin_one_file_together_give_each_number_once(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    together = threading.Barrier(8)

    def write(name: int) -> None:
        together.wait()
        spool = _open(path)
        for number in range(20):
            spool.append(_group(f"{name}-{number}-1", f"{name}-{number}-2"))
        spool.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))

    spooled = _numbered(_read(_open(path)))
    assert [number for _, number in spooled] == list(range(1, 321))
    assert len({name for name, _ in spooled}) == 320


def test_opening_waits_while_another_program_has_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()

    assert _open(path).append(_group("a"))
    release.join()
    other.close()


def test_a_node_has_its_own_sequence(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    one, other = _open(path, "kong-1"), _open(path, "kong-2")

    one.append(_group("a", "b"))
    other.append(_group("c"))
    one.append(_group("d"))

    assert _numbered(_read(one)) == [("a", 1), ("b", 2), ("c", 1), ("d", 3)]


def test_a_full_spool_keeps_the_oldest_refuses_the_newest_and_counts_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = _open(tmp_path / "spool.db", max_bytes=MEGABYTE)
    accepted = [spool.append(_group(f"e-{n}", padding="x" * 10_000)) for n in range(200)]
    kept = accepted.count(True)

    assert accepted == [True] * kept + [False] * (200 - kept)
    assert 50 < kept < 100
    assert _numbered(_read(spool)) == [(f"e-{n}", n + 1) for n in range(kept)]
    assert spool.figures().counts[REFUSED.of(reason="spool_full")] == 200 - kept
    assert [r.message for r in caplog.records] == [
        "the spool is full: new calls are refused, and counted, until it drains"
    ]


def test_a_spool_that_has_drained_takes_calls_again_without_a_gap(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db", max_bytes=MEGABYTE)
    kept = 0
    while spool.append(_group(f"e-{kept}", padding="x" * 10_000)):
        kept += 1
    spool.acknowledge(_positions(_read(spool)), "http")

    assert spool.append(_group("after"))
    assert _numbered(_read(spool)) == [("after", kept + 1)]


def test_the_counts_survive_a_restart(tmp_path: Path) -> None:
    group = _group("a", "b")
    group.counts = Counter({REFUSED.of(reason="queue_full"): 3})
    spool = _open(tmp_path / "spool.db")
    spool.append(group)
    spool.close()

    counts = _open(tmp_path / "spool.db").figures().counts

    assert counts == {
        EVENTS.of(outcome="complete", usage_source="provider"): 2,
        REFUSED.of(reason="queue_full"): 3,
    }


def test_an_event_that_is_set_aside_is_kept_with_the_reason(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a", "b"))
    poison, other = _read(spool)

    assert spool.set_aside(poison.position, "status 400")

    assert _read(spool) == [other]
    assert spool.figures().set_aside == 1
    assert spool.figures().counts[SET_ASIDE.of()] == 1
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
        rows = connection.execute("SELECT body, reason FROM set_aside").fetchall()
    assert rows == [(poison.body, "status 400")]


def test_what_is_set_aside_keeps_no_new_call_out_and_has_a_bound_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MOST_SET_ASIDE_BYTES", 3 * MEGABYTE)
    spool = _open(tmp_path / "spool.db", max_bytes=MEGABYTE)
    aside = 0
    while aside < 100:
        assert spool.append(_group(f"e-{aside}", padding="x" * 100_000))
        if not spool.set_aside(_read(spool)[0].position, "status 413"):
            break
        aside += 1

    assert aside == 29
    assert spool.figures().used_bytes < MEGABYTE
    assert [name for name, _ in _numbered(_read(spool))] == ["e-29"]
    assert spool.return_set_aside() == 29
    assert not spool.append(_group("full"))
    assert spool.set_aside(_read(spool)[0].position, "status 413")


def test_what_is_sent_again_is_not_lost_while_it_waits_behind_others(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("x", sink="away"))
    spool.append(_group("a", "b", "c"))
    for poison in _read(spool):
        assert spool.set_aside(poison.position, "status 400")
    spool.append(_group("d", "e"))
    assert [state.oldest for state in spool.states()] == [1]

    assert spool.return_set_aside() == 3

    assert _numbered(_read(spool)) == [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6)]
    assert [state.oldest for state in spool.states()] == [1]
    spool.acknowledge(_positions(_read(spool, sink="away")), "http")
    assert [state.oldest for state in spool.states()] == [2]


def test_what_an_older_version_set_aside_takes_no_other_events_place(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a", "b", "c"))
    first, second, _ = _read(spool)
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
        connection.execute(
            "INSERT INTO set_aside VALUES (?, 'sink', 0, 'status 400', ?)",
            (second.position, first.body),
        )
    spool.acknowledge([first.position], "http")

    assert spool.set_aside(second.position, "status 400")
    assert spool.return_set_aside() == 2

    assert sorted(_numbered(_read(spool))) == [("a", 1), ("b", 2), ("c", 3)]


def test_no_more_is_set_aside_than_the_bound_and_nothing_is_dropped_for_it(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a"))
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
        row = ("sink", 0.0, "full", "{}")
        connection.executemany(
            "INSERT INTO set_aside (sink, set_aside_at, reason, body) VALUES (?, ?, ?, ?)",
            [row] * MOST_SET_ASIDE,
        )
    [event] = _read(spool)

    assert not spool.set_aside(event.position, "status 400")
    assert _read(spool) == [event]


# A file that cannot be read


def _lose_rows_of_the_index(path: Path) -> None:
    """Leave only the last row in the index by which a sink's events are found."""
    whole = "CREATE INDEX event_by_sink ON event (sink)"
    say = "UPDATE sqlite_master SET sql = ? WHERE name = 'event_by_sink'"
    with closing(sqlite3.connect(path)) as connection:
        [(newest,)] = connection.execute("SELECT max(position) FROM event")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(say, (f"{whole} WHERE position >= {newest}",))
        connection.commit()
        with closing(sqlite3.connect(path)) as other:
            other.execute("REINDEX event_by_sink")
        connection.execute(say, (whole,))
        connection.commit()


def _overwrite(path: Path, at: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x5a" * length)


@pytest.mark.parametrize(
    ("at", "length"),
    [
        pytest.param(0, 100, id="its header"),
        pytest.param(4096, 40_000, id="its pages"),
        pytest.param(18, 1, id="the byte that says who may write it"),
    ],
)
def test_a_corrupt_file_is_set_aside_and_a_new_one_begun_that_repeats_no_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: int, length: int
) -> None:
    path = tmp_path / "spool.db"
    spool = _open(path)
    for number in range(100):
        spool.append(_group(f"e-{number}", padding="x" * 1000))
    spool.close()
    _overwrite(path, at, length)

    again = _open(path)
    again.append(_group("after"))

    [(name, sequence)] = _numbered(_read(again))
    assert name == "after"
    assert 100 < sequence <= 100 + RESERVED_BLOCK + 1
    assert len(list(tmp_path.glob("spool.db.corrupt-*Z"))) == 1
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "the spool file is corrupt" in record.message
    assert "a new one begun" in record.message


def test_an_index_that_has_lost_rows_is_made_anew_and_every_event_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = _open(path)
    spool.append(_group("a", "b", "c"))
    spool.close()
    _lose_rows_of_the_index(path)
    unmended = Spool(path, "kong-1", max_bytes=MEGABYTE, survives_power_loss=True)
    assert [name for name, _ in _numbered(_read(unmended))] == ["c"]
    unmended.close()

    again = _open(path)
    again.append(_group("d"))

    assert [name for name, _ in _numbered(_read(again))] == ["a", "b", "c", "d"]
    assert not list(tmp_path.glob("*corrupt*"))


def test_a_file_in_which_an_event_is_of_no_sink_any_more_is_set_aside(tmp_path: Path) -> None:
    """The index then says another sink than the row, and made anew it would never give the event."""
    path = tmp_path / "spool.db"
    spool = _open(path)
    spool.append(_group("a", "b"))
    spool.close()
    of_the_row = path.read_bytes().index(b'{"nodeid"') - len(b"8 bytes.") - len(b"sink")
    with path.open("r+b") as file:
        file.seek(of_the_row)
        assert file.read(4) == b"sink"
        file.seek(of_the_row)
        file.write(b"zink")

    again = _open(path)
    again.append(_group("after"))

    assert [name for name, _ in _numbered(_read(again))] == ["after"]
    assert len(list(tmp_path.glob("spool.db.corrupt-*Z"))) == 1


@pytest.mark.parametrize("looks", ["at the start", "as it is read"])
def test_a_file_in_which_an_event_is_no_text_any_more_is_set_aside(
    tmp_path: Path, looks: str
) -> None:
    path = tmp_path / "spool.db"
    spool = _open(path)
    spool.append(_group("a"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE event SET body = CAST(body AS BLOB)")
        connection.commit()

    if looks == "at the start":
        spool.check()
        assert list(tmp_path.glob("spool.db.corrupt-*Z"))

    assert _read(spool) == []
    assert spool.append(_group("after"))
    assert [name for name, _ in _numbered(_read(spool))] == ["after"]
    assert len(list(tmp_path.glob("spool.db.corrupt-*Z"))) == 1


def test_a_file_that_becomes_corrupt_while_it_is_open_is_set_aside_and_no_append_fails(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    spool, sender = _open(path), Spool(path)
    spool.append(_group("a", padding="x" * 100_000))
    _read(sender)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _overwrite(path, 0, path.stat().st_size)

    assert spool.append(_group("b"))
    assert spool.append(_group("c"))

    assert [name for name, _ in _numbered(_read(sender))] == ["b", "c"]
    assert [name for name, _ in _numbered(_read(spool))] == ["b", "c"]
    assert len(list(tmp_path.glob("spool.db.corrupt-*Z"))) == 1


def test_what_was_sent_from_a_file_that_was_set_aside_deletes_nothing_from_the_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    spool, sender = _open(path), Spool(path)
    spool.append(_group("a", "b"))
    held, poison = _read(sender)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _overwrite(path, 0, path.stat().st_size)
    spool.append(_group("c", "d"))

    sender.acknowledge([held.position], "http")
    assert sender.set_aside(poison.position, "status 400")

    assert [name for name, _ in _numbered(_read(sender))] == ["c", "d"]
    assert (sender.figures().waiting, sender.figures().set_aside) == (2, 0)


def test_the_sequence_goes_on_when_the_file_was_deleted(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = _open(path)
    spool.append(_group("a", "b"))
    for file in tmp_path.glob("spool.db*"):
        if not file.name.endswith(".sequence"):
            file.unlink()

    spool.append(_group("c"))

    [(name, sequence)] = _numbered(_read(spool))
    assert (name, sequence > 2) == ("c", True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kong-1": "x"}', "7"])
def test_an_unreadable_mark_leaves_the_sequence_to_the_file(tmp_path: Path, text: str) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a"))
    spool.close()
    (tmp_path / "spool.db.sequence").write_text(text)

    again = _open(tmp_path / "spool.db")
    again.append(_group("b"))

    assert _numbered(_read(again)) == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kong-1": "x"}', "7" * 100])
def test_an_unreadable_mark_of_what_was_given_is_written_anew(tmp_path: Path, text: str) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a"))
    (tmp_path / "spool.db.given").write_text(text)

    spool.append(_group("b"))

    assert _numbered(_read(spool)) == [("a", 1), ("b", 2)]
    assert json.loads((tmp_path / "spool.db.given").read_text()) == {"kong-1": 2}


def test_a_restart_leaves_no_hole_in_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    first, second = _open(path), _open(path)
    first.append(_group("a", "b"))
    second.append(_group("c", "d"))
    first.append(_group("e"))
    first.close()
    third = _open(path)
    third.append(_group("f"))

    assert [number for _, number in _numbered(_read(third))] == [1, 2, 3, 4, 5, 6]
    [state] = third.states()
    assert (state.first, state.newest, state.oldest) == (1, 6, 1)


def test_a_mark_that_cannot_be_written_keeps_no_event_from_the_spool(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool.db.given").mkdir()
    spool = _open(tmp_path / "spool.db")

    spool.append(_group("a"))
    spool.append(_group("b"))

    assert _numbered(_read(spool)) == [("a", 1), ("b", 2)]
    assert "spool.db.given cannot be written" in caplog.text


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    _open(tmp_path / "spool.db").append(_group("a"))
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(SpoolError, match="newer version"):
        _open(tmp_path / "spool.db")
    assert list(tmp_path.glob("*corrupt*")) == []


def test_nobody_else_may_read_the_spool(tmp_path: Path) -> None:
    spool = _open(tmp_path / "spool.db")
    spool.append(_group("a"))

    modes = {file.name: oct(file.stat().st_mode & 0o077) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(modes, "0o0")


def test_a_metric_is_counted_with_its_labels_alone() -> None:
    assert SENT.of(sink="http") == Count("tallyman_plugin_sent_total", 'sink="http"')
    with pytest.raises(ValueError, match="has the labels"):
        SENT.of(kind="http")
