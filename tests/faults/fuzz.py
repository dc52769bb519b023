"""What is fed with anything at all: the envelope, the JSONPath, the spool's reader, the plugin's rules.

Each target takes bytes and raises only if a promise is broken. `test_fuzz.py` feeds them with hypothesis;
`python -m tests.faults.fuzz TARGET SECONDS SEED` with atheris, which follows what code the bytes reach.
"""

import copy
import functools
import importlib
import inspect
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from tallyman.domain import event as event_module
from tallyman.domain import event_data, event_value, meter
from tallyman.domain.event import parse_event, parse_events
from tallyman.domain.event_value import number_of, text_of
from tallyman.domain.meter import parse_path
from tallyman.errors import InvalidEvent, InvalidInput
from tallyman.stream import message
from tallyman.stream.message import encode_event, read_block
from tallyman_kong import call, event_rows, heartbeat, provider_usage, sequence_mark, spool_file
from tallyman_kong import spool as spool_module
from tallyman_kong import usage as usage_module
from tallyman_kong.entry import decode
from tallyman_kong.intake import read_entry, reader
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool, Spooled
from tallyman_kong.spool_file import SpoolError
from tallyman_kong.usage import configuration, read

from tests.contract.tables import recorded_cases
from tests.faults.traffic import calls
from tests.rigs.plugin_form import Produced
from tests.rigs.stream import usage as usage_event

ENTRIES = [case.entry for case in recorded_cases()]
SINK = HttpSink("sink-1", "http://collector/events")
PLUGIN = configuration(None)
MOST_TOKENS = 2**53
ANY = "any"
GROUPS, CALLS = 4, 3  # what a spool has before it is damaged
GIVEN = GROUPS * CALLS * 2  # a call is two events
NEW = GROUPS  # the seed of what comes after
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # quicker than a disk


def envelope(data: bytes) -> None:
    """What is no event is refused as one, and is in no block; an event is the same after a round through Kafka."""
    with suppress(InvalidEvent):
        parse_events(data)
    block = read_block([Produced(data, 1)], "default")
    try:
        event = parse_event(data)
    except InvalidEvent:
        assert not len(block)
        return
    assert list(block.ids) in ([], [event.id])
    again = parse_event(encode_event(event))
    assert (again.id, again.source, again.subject, again.time) == (
        event.id, event.source, event.subject, event.time,
    )  # fmt: skip
    assert json.loads(bytes(again.data) or b"null") == json.loads(bytes(event.data) or b"null")


def json_path(data: bytes) -> None:
    """A path is read or refused, and finds a text in any JSON."""
    path, _, text = data.decode("utf-8", "replace").partition("\n")
    try:
        steps = parse_path(path)
    except InvalidInput:
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    number = number_of(text_of(value, steps))
    assert number is None or number.is_finite()


def usage(data: bytes) -> None:
    """Any JSON for any member of a recorded entry: events that are events, with counts that are counts.

    They are the same when only what is needed of the entry's text is read.
    """
    if len(data) < 3:
        return
    entry = copy.deepcopy(ENTRIES[data[0] % len(ENTRIES)])
    paths = list(members(entry))
    try:
        value = json.loads(data[3:])
    except (ValueError, RecursionError):
        value = data[3:].decode("utf-8", "surrogateescape")
    put(entry, paths[int.from_bytes(data[1:3], "big") % len(paths)], value)
    reading = read(entry, PLUGIN)
    for event in reading.events:
        tokens, waived = event["data"]["tokens"], event["data"]["waived_tokens"]
        assert 0 <= tokens <= MOST_TOKENS
        assert 0 <= waived <= MOST_TOKENS
        assert not (tokens and waived)
        json.dumps(event, allow_nan=False).encode()
    with suppress(ValueError, RecursionError):  # what no gateway can have written
        assert read(decode(json.dumps(entry)), PLUGIN) == reading


def spool(data: bytes) -> None:
    """Any bytes anywhere in a spool's file, or in its journal: it is read, or set aside whole, and goes on.

    The file is one that was closed; the journal, which has it all, is one that a kill left. Of a journal
    only the end is lost. No number is given twice.
    """
    if len(data) < 4:
        return
    is_journal = data[0] % 2 == 0
    files = dict(spool_files(is_killed=is_journal))
    name = "spool.db-wal" if is_journal else "spool.db"
    content = bytearray(files[name])
    at = int.from_bytes(data[1:4], "big") % (len(content) + 1)
    content[at : at + len(data) - 4] = data[4:]
    files[name] = bytes(content)
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        for file, found in files.items():
            (Path(made) / file).write_bytes(found)
        try:
            again = Spool(Path(made) / "spool.db", "kong-1", max_bytes=10**9)
        except SpoolError:
            assert not is_journal
            return
        again.check()
        left = again.read(SINK.name, 1000, 10**9)
        if is_journal:
            assert _numbers(left) == list(range(1, len(left) + 1))
        assert again.append(_group(NEW))
        waiting = again.read(SINK.name, 1000, 10**9)
        new = _numbers([event for event in waiting if f'"id":"call-{NEW}-' in event.body])
        assert len(new) == 2 * CALLS
        assert new == sorted(set(new))
        assert min(new, default=GIVEN + 1) > GIVEN
        again.acknowledge([event.position for event in waiting], "http")
        again.close()


@functools.cache
def spool_files(*, is_killed: bool) -> dict[str, bytes]:
    """A spool's files as a stop leaves them, or a kill, with the journal."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        filled = Spool(Path(made) / "spool.db", "kong-1", max_bytes=10**9)
        for seed in range(GROUPS):
            filled.append(_group(seed))
        if not is_killed:
            filled.close()
        files = {file.name: file.read_bytes() for file in Path(made).iterdir()}
        filled.close()
    return files


FOLLOWED = (
    event_module, event_data, event_value, meter, message, call, provider_usage, usage_module,
    spool_module, spool_file, sequence_mark, event_rows, heartbeat,
)  # fmt: skip
TARGETS: dict[str, Callable[[bytes], None]] = {
    "envelope": envelope, "json_path": json_path, "usage": usage, "spool": spool,
}  # fmt: skip


def any_of_them(data: bytes) -> None:
    """One of the targets, which the first byte chooses: a short run goes through all in one process."""
    if data:
        list(TARGETS.values())[data[0] % len(TARGETS)](data[1:])


SEEDS = {
    "envelope": (
        usage_event(1),
        usage_event(1, 10**30),
        b"[" + usage_event(1) + b"," + usage_event(2) + b"]",
    ),
    "json_path": (b'$.tokens\n{"tokens": 1}', b'$["a"][0].b\n{"a": [{"b": "1.5"}]}'),
    "spool": (b"\0\0\x80\0" + b"broken" * 20, b"\1\0\x40\0" + b"broken" * 20),
}


def members(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every member, inner ones too."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in items:
        yield (*path, key)
        if isinstance(member, dict | list):
            yield from members(member, (*path, key))


def put(entry: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        entry = entry[step]
    entry[path[-1]] = value


def _group(seed: int) -> Group:
    group = Group()
    for one in calls(seed, CALLS):
        read_entry(one.line, reader(PLUGIN, SINK), group)
    return group


def _numbers(events: Sequence[Spooled]) -> list[int]:
    return [int(json.loads(event.body)["sequence"]) for event in events]


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """A module's own functions and those of its classes, without what decorates them."""
    own = [
        one for one in vars(module).values() if getattr(one, "__module__", "") == module.__name__
    ]
    methods = [method for one in own if inspect.isclass(one) for method in vars(one).values()]
    for one in own + methods:
        function = inspect.unwrap(getattr(one, "fget", getattr(one, "__func__", one)))
        if inspect.isfunction(function):
            yield function


def seeds(target: str) -> list[bytes]:
    """What a run begins with."""
    if target != ANY:
        return list(SEEDS.get(target, ()))
    return [
        bytes([number]) + seed
        for number, name in enumerate(TARGETS)
        for seed in SEEDS.get(name, (b"\0\0\0\0",))
    ]


def main(target: str, seconds: str, seed: str) -> None:
    atheris: Any = importlib.import_module("atheris")  # not there on every machine
    logging.getLogger("tallyman_kong").setLevel(logging.CRITICAL)
    for module in FOLLOWED:
        for function in functions_of(module):
            atheris.instrument_func(function)
    corpus = Path(tempfile.mkdtemp())
    for number, begin in enumerate(seeds(target)):
        (corpus / str(number)).write_bytes(begin)
    kept = f"-artifact_prefix={tempfile.gettempdir()}/"  # what it finds, which it prints as well
    length = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096"]
    fed = any_of_them if target == ANY else TARGETS[target]
    atheris.Setup([sys.argv[0], *length, kept, str(corpus)], fed)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
