"""The spool on bad days: cut off anywhere, a clock that goes back, a million events that wait."""

import json
import logging
import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallyman.domain.completeness import Gap, GapKind, Heartbeat, Hole, sort_gap
from tallyman_kong.intake import read_entry, reader
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool
from tallyman_kong.usage import configuration

from tests.faults.conftest import IS_LONG
from tests.faults.traffic import Call, calls, groups

SINK = HttpSink("sink-1", "http://collector/events")
CUTS = 200 if IS_LONG else 25
QUEUED = 1_000_000 if IS_LONG else 20_000
ROUNDS = 300 if IS_LONG else 30  # in which the spool is filled and emptied
EVERYTHING = 10**12


@pytest.fixture(autouse=True)
def _quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tallyman_kong")


def opened(path: Path) -> Spool:
    spool = Spool(path, "kong-1", max_bytes=EVERYTHING)
    spool.check()
    return spool


def group(these: list[Call]) -> Group:
    made = Group()
    for call in these:
        read_entry(call.line, reader(configuration(None), SINK), made)
    return made


def numbers(spool: Spool) -> list[int]:
    return [int(json.loads(e.body)["sequence"]) for e in spool.read(SINK.name, 10**7, EVERYTHING)]


def tokens(spool: Spool) -> dict[str, int]:
    """Of each event that waits, by its id."""
    read = [json.loads(event.body) for event in spool.read(SINK.name, 10**7, EVERYTHING)]
    return {event["id"]: event["data"]["tokens"] for event in read}


def test_a_spool_that_is_cut_off_anywhere_goes_on_and_repeats_no_number(
    tmp_path: Path, seed: int
) -> None:
    """In mid-page, in mid-journal: what is left is read, or set aside whole; numbers only rise."""
    chance = random.Random(seed)
    whole = tmp_path / "whole"
    whole.mkdir()
    spool = opened(whole / "spool.db")
    before, after_it = calls(seed, 120), calls(seed + 1, 1)
    sent = {name: number for one in before + after_it for name, number in one.tokens_by_id.items()}
    for these in groups(before, 4):
        spool.append(group(list(these)))
        waiting = spool.read(SINK.name, 3, EVERYTHING)
        spool.acknowledge([event.position for event in waiting], "http")
    last = numbers(spool)[-1]
    copied = tmp_path / "copied"
    shutil.copytree(whole, copied)  # as a crash leaves it, with its journal
    spool.close()
    for cut in range(CUTS):
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(copied, folder)
        file = folder / chance.choice(("spool.db", "spool.db-wal"))
        with file.open("r+b") as open_file:
            open_file.truncate(chance.randrange(file.stat().st_size))
        again = opened(folder / "spool.db")
        left = numbers(again)
        again.append(group(after_it))
        after, kept = numbers(again), tokens(again)
        again.close()

        what = f"cut {cut} of {file.name}"
        assert after == sorted(set(after)), what
        assert after[-2] > last, what  # a call is two events
        assert after[: len(left)] == left, what
        assert len(kept) == len(after), what
        assert kept.items() <= sent.items(), what
        is_new = bool(list(folder.glob("*.corrupt-*")))
        assert not is_new or (left == [] and after[0] > last), what
        shutil.rmtree(folder)


def test_what_was_lost_with_the_end_of_the_journal_is_a_hole_that_the_node_says_it_has_sent(
    tmp_path: Path, seed: int
) -> None:
    """80 numbers are given, and the journal is cut to two thirds: what it lost is named, and no more."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    spool = opened(whole / "spool.db")
    for these in groups(calls(seed, 40), 4):
        spool.append(group(list(these)))
    shutil.copytree(whole, cut)
    spool.close()
    journal = cut / "spool.db-wal"
    with journal.open("r+b") as open_file:
        open_file.truncate(journal.stat().st_size * 2 // 3)
    again = opened(cut / "spool.db")
    left = numbers(again)
    again.acknowledge([e.position for e in again.read(SINK.name, 100, EVERYTHING)], "http")
    [before] = again.states()
    again.append(group(calls(seed + 1, 1)))
    [state] = again.states()

    assert 0 < len(left) < 80
    assert (before.first, before.newest, before.oldest) == (1, 80, None)
    assert (state.first, state.newest, state.oldest) == (1, 82, 81)
    now = datetime.now(UTC)
    hole = Hole("kong-1", left[-1] + 1, 80, now, now)
    said = Heartbeat("kong-1", now, state.first, state.newest, state.oldest)
    assert sort_gap(hole, said) == [Gap(hole, GapKind.LOST)]
    again.close()


def test_a_clock_that_goes_back_changes_neither_order_nor_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path / "spool.db")
    now = time.time()
    for number, these in enumerate(groups(calls(1, 10), 2)):
        moment = now - 3600 * number
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        spool.append(group(list(these)))

    read = spool.read(SINK.name, 100, EVERYTHING)
    assert numbers(spool) == list(range(1, 21))
    assert [json.loads(event.body)["id"].split(":")[0] for event in read[::2]] == [
        f"call-1-{number}" for number in range(10)
    ]
    spool.close()


def test_a_million_events_that_wait_are_read_in_order_and_each_once(tmp_path: Path) -> None:
    """A million in the long form."""
    spool = opened(tmp_path / "spool.db")
    one = group(calls(1, 500))
    for _ in range(QUEUED // len(one.events)):
        spool.append(one)
    seen = 0
    [state] = spool.states()
    while batch := spool.read(SINK.name, 5_000, EVERYTHING):
        for event in batch:
            seen += 1
            assert f'"sequence":"{seen:018d}"' in event.body
        spool.acknowledge([event.position for event in batch], "http")

    assert (seen, state.waiting, state.newest, state.oldest) == (QUEUED, QUEUED, QUEUED, 1)
    assert spool.figures().waiting == 0
    spool.close()


def test_a_spool_that_is_filled_and_emptied_again_and_again_stays_as_large_as_it_was(
    tmp_path: Path,
) -> None:
    spool = opened(tmp_path / "spool.db")
    one = group(calls(1, 250))
    sizes = []
    for _ in range(ROUNDS):
        for _ in range(4):
            spool.append(one)
        while batch := spool.read(SINK.name, 500, EVERYTHING):
            spool.acknowledge([event.position for event in batch], "http")
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))

    third = ROUNDS // 3
    assert max(sizes[-third:]) <= max(sizes[:third]) * 1.05, sizes
    assert spool.states()[0].newest == ROUNDS * 4 * len(one.events)
    spool.close()
