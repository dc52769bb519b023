"""The sweep: killed just before and just after each durable step, everything still counts once.

The steps are named in the code (`durable`); each must be reached by a world that is swept here.
"""

import ast
import itertools
import json
import os
import random
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import IS_LONG
from tests.rigs.kafka import Kafka

EMBEDDED = frozenset(
    [
        "spool.append", "spool.reserve", "spool.acknowledge", "spool.set_aside", "spool.return",
        "spool.set_corrupt_aside", "sender.send", "store.mend", "store.insert", "store.remember",
        "store.drop", "replay.store", "reconcile.forget_by_id", "reconcile.forget_by_minute",
        "reconcile.make_good", "reconcile.report", "rollup.write", "rollup.mark", "ahead.append",
        "ahead.remove",
    ]
)  # fmt: skip
KAFKA = frozenset(
    [
        "producer.produce", "store.insert", "store.remember", "consumer.bury", "consumer.commit",
        "dead.produce", "dead.mark", "replay.produce", "spool.acknowledge",
    ]
)  # fmt: skip
SERVED = frozenset(["replay.post"])
SENT = frozenset(
    [
        "spool.append", "spool.acknowledge", "sender.send", "ahead.append", "store.insert",
        "ahead.remove", "store.remember",
    ]
)  # fmt: skip
ROOT = Path(__file__).parents[2]
# What writes and is no step, and why it need not be.
NO_STEPS = {
    "spool.Spool.count": "figures of what is refused or left out, no events",
    "spool.Spool.give_up": "one transaction; killed before it, the event is refused again",
    "spool.Spool.probe": "nothing reads it",
    "sequence_mark.SequenceMark.gave": "the end of spool.append",
    "server.run": "the plugin's description, written anew at each start",
    "events.EventStore.store_change": "test_a_change_that_was_cut_off_is_stored_at_the_next_start",
    "events.EventStore.migrate": "one insert, which each start does again",
    "events.EventStore.ping": "writes nothing",
    "seen.Seen._delete": "all that reconcile.forget_by_id and reconcile.forget_by_minute do",
    "event_schema.migrate": "test_a_migration_that_was_cut_off_is_done_again",
}
WRITES = re.compile(r"(.*\.)?(_file\.write|pwrite|replace_file|_?clickhouse\.(insert|command))")
NAMED = re.compile(r'@durable\("([^"]+)"\)')
MOST_TIMES = 6  # that a step is tried at in the long form
AT_ONCE = 2
Function = ast.FunctionDef | ast.AsyncFunctionDef
WHENS = ("before", "after")


def test_every_durable_step_is_swept() -> None:
    sources = [*ROOT.glob("plugin/**/*.py"), *ROOT.glob("collector/**/*.py")]
    named = [name for source in sources for name in NAMED.findall(source.read_text())]

    assert sorted(named) == sorted(EMBEDDED | KAFKA | SERVED)


def test_whatever_writes_is_a_durable_step() -> None:
    written = {
        name: any("durable(" in ast.unparse(one) for one in function.decorator_list)
        for folder in ("plugin/*", "collector/tallyman/stream", "collector/tallyman/store")
        for source in ROOT.glob(f"{folder}/*.py")
        for name, function in functions(ast.parse(source.read_text()), source.stem)
        if any(map(writes, ast.walk(function)))
    }

    assert sorted(name for name, is_step in written.items() if not is_step) == sorted(NO_STEPS)


def functions(of: ast.Module | ast.ClassDef, within: str) -> Iterator[tuple[str, Function]]:
    """The functions of a module and the methods of its classes."""
    for one in of.body:
        if isinstance(one, ast.ClassDef):
            yield from functions(one, f"{within}.{one.name}")
        elif isinstance(one, Function):
            yield f"{within}.{one.name}", one


def writes(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and bool(WRITES.fullmatch(ast.unparse(node.func)))


def test_a_node_and_an_embedded_collector_killed_at_any_step_count_each_call_once(
    tmp_path: Path, seed: int
) -> None:
    whole = next(lived("embedded_world", tmp_path, seed, [""]))
    check(whole)
    assert (whole["taken_away"], whole["arrived"]["lacks"]) == (1, 1)
    assert {f"{when}:{step}" for when in WHENS for step in EMBEDDED} <= set(whole["reached"])

    faults = faults_of(whole["reached"], EMBEDDED, seed, both=IS_LONG)
    between = "before:reconcile.forget_by_minute:1"  # of the tables of which an id is forgotten
    for found in lived("embedded_world", tmp_path, seed, list(dict.fromkeys([*faults, between]))):
        check(found)


def test_a_sender_that_acknowledges_before_it_sends_is_found(tmp_path: Path, seed: int) -> None:
    bug = {"BUG": "acknowledges_first"}
    [found] = lived("embedded_world", tmp_path, seed, ["after:spool.acknowledge:1"], bug)

    assert found["tokens"] == found["expected"], "what is lost is made good by the replay"
    with pytest.raises(AssertionError, match="unexplained"):
        check(found)


def test_a_sender_and_a_server_over_http_killed_at_any_step_count_each_call_once(
    tmp_path: Path, seed: int
) -> None:
    faults = [f"{when}:{step}:{number}" for step in SENT for when in WHENS for number in (1, 3)]
    faults = faults if IS_LONG else [random.Random(seed).choice(sorted(faults))]
    for found in lived("sender_world", tmp_path, seed, faults):
        check(found)


def test_what_goes_through_kafka_killed_at_any_step_counts_once(
    tmp_path: Path, seed: int, kafka: Kafka
) -> None:
    environment = {"KAFKA": kafka.bootstrap}
    whole = next(lived("kafka_world", tmp_path, seed, [""], environment))
    check(whole)
    assert {f"{when}:{step}" for when in WHENS for step in KAFKA} <= set(whole["reached"])

    faults = faults_of(whole["reached"], KAFKA, seed, both=IS_LONG)
    faults.append("before:consumer.bury:99")  # more often than any life reaches it
    for found in lived("kafka_world", tmp_path, seed, faults, environment):
        check(found)


def test_a_log_that_is_replayed_to_a_server_killed_at_any_batch_counts_once(
    tmp_path: Path, seed: int
) -> None:
    faults = [f"{when}:{step}:{number}" for step in SERVED for when in WHENS for number in (1, 2)]
    faults = faults if IS_LONG else [random.Random(seed).choice(faults)]
    for found in lived("server_world", tmp_path, seed, faults):
        check(found)


def faults_of(
    reached: Mapping[str, int], steps: frozenset[str], seed: int, *, both: bool
) -> list[str]:
    """Where to be killed: in the short form once before and (or) once after each step."""
    chance = random.Random(seed)
    faults = []
    for step in sorted(steps):
        for when in WHENS if both else (chance.choice(WHENS),):
            times = range(1, reached[f"{when}:{step}"] + 1)
            numbers = chance.sample(times, min(MOST_TIMES if IS_LONG else 1, len(times)))
            faults += [f"{when}:{step}:{number}" for number in numbers]
    return faults


def lived(
    world: str,
    folder: Path,
    seed: int,
    faults: list[str],
    environment: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """What became of the world for each fault; two processes share the faults."""
    processes = []
    for part in (faults[at::AT_ONCE] for at in range(AT_ONCE)):
        if not part:
            continue
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"tests.faults.{world}",
                str(folder / uuid.uuid4().hex),
                str(seed),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                **(environment or {}),
                "PYTHONPATH": "collector:plugin:.",
                "KONG_TALLYMAN_FAULT": "armed",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write("".join(f"{fault}\n" for fault in part))
        process.stdin.close()
        processes.append(process)
    outputs = []
    for process in processes:
        with process:
            assert process.stdout is not None
            outputs.append(process.stdout.readlines())
        assert process.returncode == 0
    for lines in itertools.zip_longest(*outputs):
        yield from (json.loads(line) for line in lines if line)


def check(found: dict[str, Any]) -> None:
    """It was killed where it should, everything counts once, and what was taken away is missing."""
    fault = found["fault"] or "unharmed"
    assert found["ends"] == ([-9, 0] if found["fault"] else [0]), fault
    if arrived := found.get("arrived"):
        assert {"unexplained": [], "adds_up": True}.items() <= arrived.items(), (
            f"{arrived}; {fault}"
        )
        if found["fault"].startswith("after:spool.append:"):  # what stood in it was on disk
            assert arrived["lacks"] == found["lost_on_purpose"], fault
    assert found["tokens"] == found["expected"], fault
    left = {name: found[name] for name in ("lost", "missing", "waiting")}
    assert left == {"lost": 0, "missing": found["taken_away"], "waiting": 0}, fault
