"""`consume` and `dead` as an operator runs them: processes of their own, killed at the worst moments."""

import asyncio
import contextlib
import dataclasses
import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from tallyman.errors import InvalidEvent
from tallyman.store.event_block import IS_BUILT
from tallyman.store.events import EventStore
from tallyman.stream.dead_letters import DeadLetters, Rejected

from tests.integration.stream.test_consumer import tokens
from tests.integration.stream.test_replay import TALLYMAN, environment, tallyman
from tests.rigs.clickhouse import Shim
from tests.rigs.ports import free_ports
from tests.rigs.stream import WAIT_SECONDS, Stream, usage


class Deployment:
    """The settings of a production deployment around one stream and one database."""

    def __init__(self, stream: Stream, shim: Shim, database: str, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.said = ""  # by the last consumer at its start
        (self.port,) = free_ports(1)
        address = shim.address
        self.settings = {
            "TALLYMAN_CLICKHOUSE_URL": f"http://default:@{address.host}:{address.port}/{database}",
            "TALLYMAN_KAFKA_BROKERS": stream.kafka.bootstrap,
            "TALLYMAN_KAFKA_TOPIC": stream.topic,
            "TALLYMAN_KAFKA_DEAD_TOPIC": stream.dead_topic,
            "TALLYMAN_KAFKA_GROUP": stream.group,
            "TALLYMAN_CONSUME_PORT": str(self.port),
            "TALLYMAN_CONSUME_WAIT_MS": "20",
        }

    @contextlib.asynccontextmanager
    async def consuming(
        self, batch_events: int = 10_000, stderr: int = asyncio.subprocess.DEVNULL
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """`tallyman consume`, which has said that it runs; gone at the end of the block."""
        settings = {**self.settings, "TALLYMAN_CONSUME_BATCH_EVENTS": str(batch_events)}
        process = await asyncio.create_subprocess_exec(
            TALLYMAN,
            "consume",
            env=environment(self.tmp_path, settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
        assert process.stdout is not None
        try:
            self.said = (await process.stdout.readline()).decode()
            assert "Tallyman consumes" in self.said
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()

    async def run(self, *arguments: str) -> str:
        done = await asyncio.to_thread(tallyman, self.tmp_path, *arguments, settings=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def page(self, path: str) -> str:
        return await asyncio.to_thread(self._page, path)

    def _page(self, path: str) -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=10
            ) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as err:
            with err:
                return str(err.read().decode())

    async def wait_for(self, path: str, condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition(text := await self.page(path)):
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.05)


@pytest.fixture
def deployment(
    stream: Stream, clickhouse_shim: Shim, http_store_name: str, tmp_path: Path
) -> Deployment:
    return Deployment(stream, clickhouse_shim, http_store_name, tmp_path)


@pytest.mark.parametrize("first", [0, 1], ids=["read at once", "read one by one"])
async def test_a_consumer_killed_between_store_and_commit_counts_nothing_twice(
    stream: Stream,
    deployment: Deployment,
    http_store: EventStore,
    clickhouse_shim: Shim,
    first: int,
) -> None:
    await stream.put([usage(1_000)])
    async with deployment.consuming() as process:
        await stream.wait_until_committed(1)
        clickhouse_shim.fail_inserts(after=1_000_000)  # stored, but the consumer never hears of it
        await stream.put([usage(number) for number in range(first, 800, 2)])
        await deployment.wait_for("/readyz", lambda text: '"failing"' in text)
        process.kill()
    clickhouse_shim.fail_inserts()
    assert await stream.committed() == 1
    stored_before = await tokens(http_store)

    async with deployment.consuming() as process:
        await stream.wait_until_committed(401)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

    assert (stored_before, await tokens(http_store)) == (401, 401)


async def test_consumers_that_are_killed_in_mid_stream_lose_and_double_nothing(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    await stream.put([usage(number, tokens=number) for number in range(1, 6_001)])
    for messages in (1, 3_000):
        async with deployment.consuming(batch_events=500) as process:
            await stream.wait_until_committed(messages)
            process.kill()
    async with deployment.consuming() as process:
        await stream.wait_until_committed(6_000)
        process.send_signal(signal.SIGTERM)

    assert await tokens(http_store) == sum(range(1, 6_001))


async def test_consume_says_at_its_start_whether_compiled_code_reads(
    deployment: Deployment,
) -> None:
    async with deployment.consuming():
        said = deployment.said

    assert ("by compiled code" in said, "by Python alone" in said) == (IS_BUILT, not IS_BUILT)


async def test_sigterm_finishes_the_batch_and_commits_it(
    stream: Stream, deployment: Deployment, http_store: EventStore, clickhouse_shim: Shim
) -> None:
    async with deployment.consuming() as process:
        await stream.put([usage(number) for number in range(10)])
        await stream.wait_until_committed(10)
        clickhouse_shim.fail_inserts(delay_seconds=1.0)
        await stream.put([usage(number) for number in range(10, 20)])
        await deployment.wait_for("/metrics", lambda text: "messages_total 10.0" in text)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        said = (await process.stdout.read()).decode()

        assert await process.wait() == 0
    assert said.splitlines() == ["Stopping: what is under way is finished first.", "Stopped."]
    assert await stream.committed() == await tokens(http_store)


async def test_status_shows_what_waits_in_kafka(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    await stream.put([usage(number) for number in range(30)])
    waiting = await deployment.run("status")
    async with stream.consumer(http_store):
        await stream.wait_until_committed(30)
    done = await deployment.run("status")

    assert "30 messages" in waiting
    assert "0 messages" in done
    assert "30 in ClickHouse" in done


async def test_a_dead_letter_is_shown_without_its_message_and_replayed_once(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    good = usage(7, tokens=70)
    async with stream.consumer(http_store):
        await stream.put([usage(1), b'{"canary": 1}', b"canary{"])
        # an event that was refused for a header, which a newer version, say, would take
        await stream.put([good], [("namespace", b"\xff")])
        await stream.wait_until_committed(4)

        shown = await deployment.run("dead", "list")
        with_values = await deployment.run(
            "dead", "list", "--show-value", "--reason", "invalid_event"
        )
        assert "3 dead letters" in shown
        assert stream.topic in shown
        assert "canary" not in shown
        assert "canary" in with_values

        letter = re.search(r"(\d+/\d+) .*headers\.namespace", shown)
        assert letter is not None
        said = await deployment.run("dead", "replay", "--letter", letter[1])
        assert said == "1 dead letters sent to where they came from\n"
        await stream.wait_until_committed(5)

        rest = await deployment.run("dead", "replay", "--all")
        assert rest.startswith("3 dead letters")  # the one that died again is a new letter
        await stream.wait_until_committed(8)
        letters = await stream.dead_letters()

    replayed = [letter for letter in letters if letter.replayed_at is not None]
    again = [letter for letter in letters if letter.replayed_at is None]
    assert (len(replayed), len(again)) == (4, 3)
    replayed_from = [dict(letter.headers)["replayed_from"] or b"" for letter in again]
    assert {place.decode().split("/")[0] for place in replayed_from} == {stream.dead_topic}
    assert "7 dead letters" in await deployment.run("dead", "list", "--all")


async def test_a_replayed_event_counts_once_even_if_it_is_replayed_again(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    """What was dead for one version is an event for the next."""
    event = usage(1, tokens=5)
    timeless = json.dumps({k: v for k, v in json.loads(usage(2)).items() if k != "time"}).encode()
    await _bury(stream, [event, timeless])
    async with stream.consumer(http_store) as running:
        await deployment.run("dead", "replay", "--all")
        await deployment.run("dead", "replay", "--all", "--again")
        await stream.wait_until_committed(4)

        assert running.value("tallyman_consumer_known_events_total") == 2
    assert await tokens(http_store) == 6


async def test_without_kafka_it_says_where_bad_events_are(tmp_path: Path) -> None:
    done = await asyncio.to_thread(tallyman, tmp_path, "dead", "list")

    assert done.returncode == 0
    assert "refused with 400" in done.stdout


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"TALLYMAN_KAFKA_TOPIC": "no-such"}, "has no topic no-such", id="no topic"),
        pytest.param({"TALLYMAN_KAFKA_BROKERS": "127.0.0.1:1"}, "did not answer", id="no broker"),
    ],
)
async def test_a_consumer_that_cannot_start_says_why(
    deployment: Deployment, changes: dict[str, str], sentence: str
) -> None:
    settings = {**deployment.settings, **changes}

    done = await asyncio.to_thread(tallyman, deployment.tmp_path, "consume", settings=settings)

    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


async def _bury(stream: Stream, values: list[bytes]) -> None:
    """Set good events aside, as a version that did not know them would have."""
    aside = Stream(stream.kafka, 1)
    await aside.create()
    await aside.put(values)
    records = []
    consumer = AIOKafkaConsumer(
        aside.topic, **stream.connection.options(), auto_offset_reset="earliest"
    )
    await consumer.start()
    for _ in values:
        record = await consumer.getone()
        records.append(dataclasses.replace(record, topic=stream.topic))
    await consumer.stop()
    letters = DeadLetters(stream.connection, stream.dead_topic)
    await letters.bury([Rejected(record, InvalidEvent("too new")) for record in records])
    await letters.close()
