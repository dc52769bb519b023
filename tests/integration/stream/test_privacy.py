"""No prompt, answer, key, query string or unnamed header goes through Kafka, or is said of what went wrong.

As tests/e2e/test_privacy.py does for HTTP and everything embedded.
"""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest
from tallyman.demo import processes
from tallyman.demo.kong_driver import KongDriver
from tallyman.store.events import EventStore
from tallyman.stream.dead_letters import DeadLetter

from tests.e2e.test_privacy import CANARY, ENTRIES, contents, with_canaries
from tests.faults.kafka_world import RefusingStore
from tests.integration.stream.test_commands import Deployment, deployment
from tests.integration.stream.test_replay import tallyman
from tests.rigs.kafka import Kafka
from tests.rigs.stream import Stream, usage

__all__ = ["deployment"]
STRANGER = "sTrAnGeR9b2d"  # what somebody else produced, which may stand in the topics
SENT = len(ENTRIES)  # calls that the plugin sends; as many again are in Kong's log alone
EVENTS = 2 * SENT
RUBBISH = [
    f'{{"{STRANGER}": '.encode(),
    f"{STRANGER} \xff".encode("latin-1"),
    json.dumps([STRANGER]).encode(),
    usage(1, id=[STRANGER]),
    usage(2, time=STRANGER),
    usage(3, subject=STRANGER * 1000),
    usage(4, specversion=STRANGER),
    usage(5, datacontenttype=STRANGER),
    usage(6, type=""),
]


@pytest.fixture
async def stream(kafka: Kafka) -> Stream:
    """Topics whose files hold what they were sent as it is, so that they can be searched."""
    stream = Stream(kafka, partitions=4)
    for topic, partitions in ((stream.topic, 4), (stream.dead_topic, 1)):
        await kafka.create_topic(topic, partitions, {"compression.type": "uncompressed"})
    return stream


@pytest.fixture
def on_postgres(deployment: Deployment, postgres_url: str) -> Deployment:
    deployment.settings["TALLYMAN_DATABASE_URL"] = postgres_url
    return deployment


async def test_no_canary_is_found_in_kafka_in_a_store_in_what_a_consumer_says_or_in_a_reconciliation(
    stream: Stream,
    on_postgres: Deployment,
    postgres_url: str,
    http_store: EventStore,
    tmp_path: Path,
) -> None:
    """Only a message that somebody else produced has what they put in, where `--show-value` shows it."""
    await asyncio.to_thread(_call, stream, tmp_path / "plugin.log")
    await stream.put(RUBBISH)
    log = tmp_path / "consume.log"
    with log.open("wb") as output:
        async with on_postgres.consuming(stderr=output.fileno()):
            await stream.wait_until_committed(EVENTS + len(RUBBISH))
            metrics = await on_postgres.page("/metrics")
    kong_log = tmp_path / "kong.log"
    kong_log.write_text("".join(_lines()))
    said = [log.read_text(), (tmp_path / "plugin.log").read_text(), metrics]
    for command in (
        ["reconcile", kong_log],
        ["reconcile", "--json", kong_log],
        ["dead", "list"],
    ):
        done = await asyncio.to_thread(tallyman, tmp_path, *command, settings=on_postgres.settings)
        said += [done.stdout, done.stderr]
    kong_log.unlink()
    letters = await stream.dead_letters()
    reasons = [f"{letter.code} {letter.reason}" for letter in letters]
    topic, dead = _on_disk(stream, stream.topic), _on_disk(stream, stream.dead_topic)
    stored = await _rows(http_store)

    assert len(letters) == len(RUBBISH)
    assert json.loads(said[5])["log"]["uncounted"] == EVENTS, said[5]
    assert not [text for text in (*said, *reasons) if CANARY in text or STRANGER in text]
    assert b"alice" in topic  # so that what is in it can be found
    assert STRANGER.encode() in topic
    assert STRANGER.encode() in dead
    assert CANARY.encode() not in topic + dead
    assert {"events", "dropped", "reconciliation"} <= set(stored)
    assert stored["reconciliation"]
    assert "alice" in stored["events"]
    assert not [name for name, rows in stored.items() if CANARY in rows or STRANGER in rows]
    assert not [part for part in contents(tmp_path) if CANARY.encode() in part]
    in_postgres = contents(await _directory_of(postgres_url))
    assert b"api_keys" in b"".join(in_postgres)
    assert not [part for part in in_postgres if CANARY.encode() in part]


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
    for topic in (stream.topic, stream.dead_topic):
        assert b"alice" in _on_disk(stream, topic)
        assert CANARY.encode() not in _on_disk(stream, topic)


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


def _on_disk(stream: Stream, topic: str) -> bytes:
    """All that the broker wrote of a topic."""
    folders = [one for one in stream.kafka.data.iterdir() if one.name.rpartition("-")[0] == topic]
    return b"".join(part for folder in folders for part in contents(folder))


async def _rows(store: EventStore) -> dict[str, str]:
    """What is in every table, as text."""
    clickhouse = store._clickhouse
    tables = await clickhouse.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase()"
    )
    return {
        name: repr(await clickhouse.rows(f"SELECT toString(tuple(*)) FROM `{name}`"))
        for (name,) in tables
    }


async def _directory_of(url: str) -> Path:
    connection = await asyncpg.connect(url)
    directory = await connection.fetchval("SHOW data_directory")
    await connection.close()
    return Path(directory).parent  # with the server's own log
