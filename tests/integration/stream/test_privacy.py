"""No prompt, answer, key, query string or unnamed header goes through Kafka, or is said of what went wrong.

As tests/e2e/test_privacy.py does for HTTP and everything embedded.
"""

import asyncio
import json
from pathlib import Path

from tallyman.demo import processes
from tallyman.demo.kong_driver import KongDriver
from tallyman.store.events import EventStore
from tallyman.stream.dead_letters import DeadLetter

from tests.e2e.test_privacy import CANARY, ENTRIES, contents, with_canaries
from tests.faults.kafka_world import RefusingStore
from tests.integration.stream.test_commands import Deployment, deployment
from tests.integration.stream.test_replay import tallyman
from tests.rigs.stream import Stream, usage

__all__ = ["deployment"]
SENT = len(ENTRIES)  # calls that the plugin sends; as many again are in Kong's log alone
EVENTS = 2 * SENT
RUBBISH = [
    f'{{"{CANARY}": '.encode(),
    f"{CANARY} \xff".encode("latin-1"),
    json.dumps([CANARY]).encode(),
    usage(1, id=[CANARY]),
    usage(2, time=CANARY),
    usage(3, subject=CANARY * 1000),
    usage(4, specversion=CANARY),
    usage(5, datacontenttype=CANARY),
    usage(6, type=""),
]


async def test_no_canary_is_found_in_kafka_in_what_a_consumer_says_or_in_a_reconciliation(
    stream: Stream, deployment: Deployment, http_store: EventStore, tmp_path: Path
) -> None:
    """Only a message that somebody else produced has what they put in, where `--show-value` shows it."""
    await asyncio.to_thread(_call, stream, tmp_path / "plugin.log")
    await stream.put(RUBBISH)
    log = tmp_path / "consume.log"
    with log.open("wb") as output:
        async with deployment.consuming(stderr=output.fileno()):
            await stream.wait_until_committed(EVENTS + len(RUBBISH))
            metrics = await deployment.page("/metrics")
    kong_log = tmp_path / "kong.log"
    kong_log.write_text("".join(_lines()))
    said = [log.read_text(), (tmp_path / "plugin.log").read_text(), metrics]
    for command in (
        ["reconcile", kong_log],
        ["reconcile", "--json", kong_log],
        ["dead", "list"],
    ):
        done = await asyncio.to_thread(tallyman, tmp_path, *command, settings=deployment.settings)
        said += [done.stdout, done.stderr]
    letters = await stream.dead_letters()
    reasons = [f"{letter.code} {letter.reason}" for letter in letters]

    assert len(letters) == len(RUBBISH)
    assert json.loads(said[5])["log"]["uncounted"] == EVENTS, said[5]
    assert not [text for text in (*said, *reasons) if CANARY in text]
    assert not await _stored_with_canary(http_store)


async def test_what_the_plugin_sent_and_the_store_refuses_takes_no_canary_to_the_dead_letters(
    stream: Stream, http_store: EventStore, tmp_path: Path
) -> None:
    await asyncio.to_thread(_call, stream, tmp_path / "plugin.log")
    refusing = RefusingStore(http_store, "", tmp_path / "never")
    async with stream.consumer(refusing):
        await stream.wait_until_committed(EVENTS)

    letters = await stream.dead_letters()
    assert len(letters) == EVENTS
    assert not [letter for letter in letters if CANARY in _everything_of(letter)]
    assert not [part for part in contents(tmp_path) if CANARY.encode() in part]


def _call(stream: Stream, log: Path) -> None:
    """Every recorded call with canaries wherever Kong may log what was sent, through the plugin."""
    config = {
        "sink": "kafka",
        "timeout": 3000,
        "kafka": {"brokers": [stream.kafka.bootstrap], "topic": stream.topic},
    }
    with processes.plugin_server(log) as socket, KongDriver(socket) as kong:
        instance = kong.start_instance(config)
        for entry in ENTRIES:
            kong.log(instance, with_canaries(entry))
        kong.log(instance, f'{{"{CANARY}": ')


def _lines() -> list[str]:
    """Kong's log: the calls that the plugin sent, others, and lines that are bad."""
    lines = []
    for entry in ENTRIES:
        lines.append(json.dumps(with_canaries(entry)))
        other = with_canaries(entry)
        other["request"]["id"] = "lost-" + entry["request"]["id"][5:]
        lines.append(json.dumps(other))
    lines += [
        f'{{"{CANARY}": ',
        f'"{CANARY}"',
        json.dumps({**with_canaries(ENTRIES[0]), "started_at": CANARY}),
    ]
    return [f"{line}\n" for line in lines]


def _everything_of(letter: DeadLetter) -> str:
    return repr((letter.key, letter.value, letter.headers, letter.reason, letter.code))


async def _stored_with_canary(store: EventStore) -> int:
    rows = await store._clickhouse.rows(
        "SELECT countIf(position(toString(tuple(*)), {canary:String}) > 0) FROM events",
        {"canary": CANARY},
    )
    return int(rows[0][0])
