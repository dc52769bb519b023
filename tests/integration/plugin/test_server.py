"""The plugin server for real: a subprocess as in production, driven over its socket as Kong does."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import msgpack
import pytest
from tallyman.demo.kong_driver import KongDriver, PluginServerError

from tests.rigs.plugin import GOLDEN, PluginCommand, Receiver, entry, ids_of, until

NOWHERE = {"ingest_endpoint": "http://127.0.0.1:9/events"}  # the discard port: nobody listens
MOST_BEGUN = 2**16  # as in conversation.py, which imports what warns
Command = Callable[..., PluginCommand]


def _play(driver: KongDriver, instance: int, entries: list[dict[str, Any]]) -> None:
    for one in entries:
        driver.log(instance, one)


def _sequences(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["sequence"]) for event in events]


def _ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


async def test_a_call_comes_out_at_the_sink_with_its_number_and_the_token(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    driver = plugin.connect()

    instance = driver.start_instance({"ingest_endpoint": receiver.url, "api_token": "tm_key"})
    driver.log(instance, entry("r-1"))
    await until(lambda: len(receiver.taken) == 2)

    first = receiver.received[0]
    assert first.headers["authorization"] == "Bearer tm_key"
    assert first.headers["content-type"] == "application/cloudevents-batch+json"
    assert [(e["id"], e["nodeid"], e["sequence"], e["data"]["tokens"]) for e in first.events] == [
        ("r-1:proxy:request", "kong-1", "000000000000000001", 23),
        ("r-1:proxy:response", "kong-1", "000000000000000002", 11),
    ]
    await until(lambda: plugin.spooled() == [])


@pytest.mark.parametrize("recording", ["openai_chat", "openai_stream_payloads", "err_nokey"])
async def test_a_recorded_conversation_gets_the_recorded_answers(
    plugin: PluginCommand, recording: str
) -> None:
    messages = [m["msg"] for m in json.loads((GOLDEN / "rpc" / f"{recording}.json").read_text())]
    asked = next(
        at
        for at, message in enumerate(messages)
        if message[0] == 1 and message[3].get("Data") == _SERIALIZE
    )
    _, _, _, [handle_event] = messages[asked - 1]
    _, _, _, [step] = messages[asked + 1]
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)

    begun = driver.call("plugin.HandleEvent", {**handle_event, "InstanceId": instance})
    ended = driver.call("plugin.Step", {**step, "EventId": begun["EventId"]})

    assert begun == {**messages[asked][3], "EventId": begun["EventId"]}
    assert ended == {"Data": "ret", "EventId": begun["EventId"]}
    request_id = json.loads(step["Data"])["request"]["id"]
    expected = ids_of([request_id]) if "x-kong-llm-model" in step["Data"] else []
    await until(lambda: _ids(plugin.spooled())[: len(expected)] == expected)


_SERIALIZE = {"Method": "kong.log.serialize", "Args": []}


async def test_kong_is_told_one_plugin_with_a_log_phase_alone(plugin: PluginCommand) -> None:
    [information] = json.loads((plugin.folder / "tallyman.json").read_text())

    assert information["Name"] == "tallyman"
    assert information["Phases"] == ["log"]
    assert information["Schema"]["fields"][0]["config"]["type"] == "record"


async def test_a_changed_configuration_holds_for_the_next_call(plugin: PluginCommand) -> None:
    driver = plugin.connect()
    old = driver.start_instance({**NOWHERE, "source": "before"})
    driver.log(old, entry("r-1"))

    new = driver.start_instance({**NOWHERE, "source": "after"})
    driver.log(new, entry("r-2"))
    driver.close_instance(old)

    with pytest.raises(PluginServerError, match="no plugin instance"):
        driver.log(old, entry("r-3"))
    await until(lambda: len(plugin.spooled()) == 4)
    assert [(event["source"], event["id"]) for event in plugin.spooled()] == list(
        zip(["before"] * 2 + ["after"] * 2, ids_of(["r-1", "r-2"]), strict=True)
    )


async def test_two_instances_send_each_to_its_own_sink(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    driver = plugin.connect()
    answered = driver.start_instance({"ingest_endpoint": receiver.url})
    waiting = driver.start_instance(NOWHERE)

    for number in range(3):
        driver.log(answered, entry(f"a-{number}"))
        driver.log(waiting, entry(f"w-{number}"))
    await until(lambda: len(receiver.taken) == 6 and len(plugin.spooled()) == 6)

    assert receiver.ids() == ids_of(["a-0", "a-1", "a-2"])
    assert _ids(plugin.spooled()) == ids_of(["w-0", "w-1", "w-2"])


async def test_of_two_overlapping_servers_neither_loses_or_doubles_a_number(
    command: Command, plugin: PluginCommand
) -> None:
    old = plugin.connect()
    old_instance = old.start_instance(NOWHERE)
    newer = await command(name="newer").start()
    new = newer.connect()
    new_instance = new.start_instance(NOWHERE)

    with ThreadPoolExecutor() as threads:
        for driver, instance, name in ((old, old_instance, "o"), (new, new_instance, "n")):
            for_one = [entry(f"{name}-{number}") for number in range(300)]
            threads.submit(_play, driver, instance, for_one)
    assert await plugin.stop() == 0
    new.log(new_instance, entry("n-after"))
    await until(lambda: len(newer.spooled()) == 1202)

    assert _sequences(newer.spooled()) == list(range(1, 1203))
    assert len(set(_ids(newer.spooled()))) == 1202
    assert newer.connect().start_instance(NOWHERE) > 0  # the old one left the socket alone


async def test_every_call_that_was_taken_in_a_rolling_restart_is_spooled(
    command: Command, plugin: PluginCommand
) -> None:
    taken: list[str] = []
    stop = threading.Event()

    def be_kong(worker: int) -> None:
        """Kong starts an unknown instance anew, and connects again when it was hung up on."""
        driver = plugin.connect()
        instance = driver.start_instance(NOWHERE)
        number = 0
        while not stop.is_set():
            number += 1
            request = f"{worker}-{number}"
            try:
                driver.log(instance, entry(request))
                taken.append(request)
            except PluginServerError:
                instance = driver.start_instance(NOWHERE)
            except OSError:
                driver = plugin.connect()

    with ThreadPoolExecutor(4) as threads:
        kong = [threads.submit(be_kong, worker) for worker in range(4)]
        await until(lambda: len(taken) > 100)
        newer = await command(name="newer").start()
        await until(lambda: len(newer.children()) == 2)
        assert await plugin.stop() == 0
        before = len(taken)
        await until(lambda: len(taken) > before + 100)
        stop.set()
        for worker in kong:
            worker.result()
    await until(lambda: len(newer.spooled()) >= 2 * len(taken))

    assert sorted(_ids(newer.spooled())) == sorted(ids_of(taken))
    assert _sequences(newer.spooled()) == list(range(1, 2 * len(taken) + 1))


async def test_an_instance_of_a_server_that_is_gone_is_unknown_to_the_next(
    command: Command, plugin: PluginCommand
) -> None:
    gone = [plugin.connect().start_instance(NOWHERE) for _ in range(20)]
    await plugin.stop()
    newer = await command(name="newer").start()
    driver = newer.connect()
    for _ in range(20):
        driver.start_instance({**NOWHERE, "source": "another"})

    for instance in gone:
        with pytest.raises(PluginServerError, match="no plugin instance"):
            driver.log(instance, entry())


async def test_an_event_that_another_server_began_is_begun_anew(
    command: Command, plugin: PluginCommand
) -> None:
    driver = plugin.connect()
    event = driver.handle_event(driver.start_instance(NOWHERE))
    newer = await command(name="newer").start()

    _end_as_kong_does(newer.connect(), event, "r-1")

    await until(lambda: _ids(newer.spooled()) == ids_of(["r-1"]))


async def test_events_that_kong_never_ends_are_forgotten_and_none_that_it_does_end_is_lost(
    plugin: PluginCommand,
) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    event = {"InstanceId": instance, "EventName": "log"}
    asking = b"".join(
        msgpack.packb([0, number, "plugin.HandleEvent", [event]])
        for number in range(MOST_BEGUN + 2)
    )

    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(driver.send, asking)
        begun = [driver.receive()[3]["EventId"] for _ in range(MOST_BEGUN + 2)]
        sent.result()
    for at, request in ((2, "the oldest that is kept"), (-1, "the newest")):
        driver.step(begun[at], entry(request))
    _end_as_kong_does(driver, begun[1], "the newest that is forgotten")

    expected = ["the oldest that is kept", "the newest", "the newest that is forgotten"]
    await until(lambda: _ids(plugin.spooled()) == ids_of(expected))


def _end_as_kong_does(driver: KongDriver, event: int, request: str) -> None:
    """Told that there is no such plugin instance, Kong starts one, and begins the event anew."""
    with pytest.raises(PluginServerError, match="no plugin instance"):
        driver.step(event, entry(request))
    driver.log(driver.start_instance(NOWHERE), entry(request))


GARBAGE: dict[str, Any] = {
    "no JSON": "no json",
    "half of JSON": "{",
    "nothing": "",
    "nil": None,
    "a number": 7,
    "a float": -1.5,
    "a boolean": True,
    "an array": [1, 2],
    "an object that is no entry": {1: {2: 3}},
    "a JSON array": "[]",
    "a JSON string": '"text"',
    "a number of 10,000 digits": "9" * 10_000,
    "100,000 brackets": "[" * 100_000,
    "the wrong shape": '{"ai": {"proxy": {"meta": 1}}, "request": [], "response": 3}',
    "beyond any number": '{"ai": {"proxy": {"meta": {}}}, "started_at": 1e999}',
    "10 MB": '{"ai": "' + "x" * 10_000_000 + '"}',
    "bytes": b"\xff\xfe\x00",
}


async def test_garbage_for_an_entry_is_survived(plugin: PluginCommand) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)

    for name, garbage in GARBAGE.items():
        driver.step(driver.handle_event(instance), garbage)
        driver.log(instance, entry(f"after {name}"))

    await until(lambda: len(plugin.spooled()) == 2 * len(GARBAGE))
    assert _ids(plugin.spooled()) == ids_of(f"after {name}" for name in GARBAGE)
    assert plugin.counter("tallyman_plugin_entries_total") == 2 * len(GARBAGE)
    assert plugin.counter("tallyman_plugin_bad_entries_total") == 14


async def test_an_error_for_an_entry_is_survived_and_counted(plugin: PluginCommand) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)

    event = driver.handle_event(instance)
    ended = driver.call("plugin.StepError", {"EventId": event, "Data": "no entry for you"})
    driver.log(instance, entry("after"))

    assert ended["Data"] == "ret"
    await until(lambda: _ids(plugin.spooled()) == ids_of(["after"]))
    assert plugin.counter("tallyman_plugin_refused_total", 'reason="no_entry"') == 1


async def test_an_entry_too_large_to_take_is_refused_counted_and_survived(
    plugin: PluginCommand,
) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)

    with pytest.raises(ConnectionError):
        driver.log(instance, "x" * (64 * 1024 * 1024 + 1))
    plugin.connect().log(instance, entry("after"))

    await until(lambda: _ids(plugin.spooled()) == ids_of(["after"]))
    await until(lambda: plugin.counter("tallyman_plugin_refused_total", 'reason="too_large"') == 1)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(b"\x07", id="a number"),
        pytest.param(msgpack.packb([0, 1, "plugin.HandleEvent"]), id="too few"),
        pytest.param(msgpack.packb([0, 1, 2, 3]), id="a method that is no text"),
        pytest.param(b"\x94\x00\x01", id="half a message"),
    ],
)
async def test_garbage_on_one_connection_leaves_the_others_alone(
    plugin: PluginCommand, garbage: bytes
) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    other = plugin.connect()

    other.send(garbage)
    other.close()
    driver.log(instance, entry("after"))

    await until(lambda: _ids(plugin.spooled()) == ids_of(["after"]))


async def test_while_the_disk_is_slow_kong_waits_and_no_call_is_refused(command: Command) -> None:
    plugin = await command(queue_max_mb="1").start()
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    driver.log(instance, entry("first"))
    await until(lambda: len(plugin.spooled()) == 2)
    calls = 1000  # three times what the queue holds
    taken: list[int] = []

    def play() -> None:
        for number in range(calls):
            driver.log(instance, entry(f"r-{number}"))
            taken.append(number)

    with (
        closing(sqlite3.connect(plugin.spool, isolation_level=None)) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        other.execute("BEGIN IMMEDIATE")
        playing = thread.submit(play)
        await until(_stands_still(taken))
        assert len(taken) < calls, "Kong did not wait"
        other.execute("ROLLBACK")
        playing.result()

    await until(lambda: len(plugin.spooled()) == 2 * calls + 2)
    assert plugin.counter("tallyman_plugin_refused_total") is None


def _stands_still(taken: list[int]) -> Callable[[], bool]:
    """Whether there are some, and no more came for a while."""
    before = [0, 0.0]

    def stands_still() -> bool:
        if len(taken) != before[0]:
            before[:] = [len(taken), time.monotonic()]
        return bool(taken) and time.monotonic() - before[1] > 0.5

    return stands_still


async def test_a_kong_that_does_not_read_its_answers_keeps_nobody_waiting_and_gets_them_later(
    plugin: PluginCommand,
) -> None:
    slow, other = plugin.connect(), plugin.connect()
    asked = 3000
    asking = b"".join(
        msgpack.packb([0, number, "plugin.GetPluginInfo", ["tallyman"]]) for number in range(asked)
    )

    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(slow.send, asking)
        other.log(other.start_instance(NOWHERE), entry("r-1"))
        await until(lambda: _ids(plugin.spooled()) == ids_of(["r-1"]))
        answers = [slow.receive() for _ in range(asked)]
        sent.result()

    assert [number for _, number, _, _ in answers] == list(range(asked))
    assert {information["Name"] for _, _, _, information in answers} == {"tallyman"}


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("plugin.HandleEvent", {"InstanceId": 4, "EventName": "log"}),
        ("plugin.HandleEvent", {"EventName": "log"}),
        ("plugin.Step", {"EventId": -1, "Data": "{}"}),
        ("plugin.StartInstance", {"Name": "another", "Config": "{}"}),
        ("plugin.StartInstance", {"Name": "tallyman", "Config": "{"}),
        ("plugin.SetPluginDir", "/"),
        ("other.Thing", None),
    ],
)
async def test_a_call_that_cannot_be_answered_gets_an_error(
    plugin: PluginCommand, method: str, argument: Any
) -> None:
    driver = plugin.connect()

    with pytest.raises(PluginServerError):
        driver.call(method, argument)

    assert driver.start_instance(NOWHERE) > 0


@pytest.mark.parametrize("phase", ["access", "intake", "__class__"])
async def test_another_phase_is_refused_and_the_log_phase_goes_on(
    plugin: PluginCommand, phase: str
) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)

    with pytest.raises(PluginServerError):
        driver.handle_event(instance, phase)
    driver.log(instance, entry("after"))

    await until(lambda: _ids(plugin.spooled()) == ids_of(["after"]))


async def test_a_header_that_is_not_utf8_hides_no_call(plugin: PluginCommand) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    text = json.dumps(entry("r-1")).replace('"golden/1"', '"\udcff\udcfe"')

    driver.log(instance, text)

    assert "\udcff" in text
    await until(lambda: _ids(plugin.spooled()) == ids_of(["r-1"]))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "ingest_endpoint must be set where sink is http"),
        ({"ingest_endpoint": "ftp://x"}, "ingest_endpoint must be an http or https URL"),
        ({**NOWHERE, "failed_calls": "maybe"}, "failed_calls must be one of"),
        ({"sink": "kafka"}, "kafka.brokers must name at least one broker"),
        ([], "ingest_endpoint must be set"),
    ],
)
async def test_a_configuration_that_cannot_be_used_refuses_calls_and_says_why_once(
    command: Command, config: Any, reason: str
) -> None:
    plugin = await command().start()
    driver = plugin.connect()

    instance = driver.start_instance(config)
    for number in range(3):
        driver.log(instance, entry(f"r-{number}"))

    await until(lambda: plugin.counter("tallyman_plugin_refused_total") == 3)
    assert plugin.log().count(reason) == 1
    assert plugin.spooled() == []


async def test_ten_thousand_calls_on_eight_connections_are_all_spooled_without_a_gap(
    plugin: PluginCommand,
) -> None:
    instance = plugin.connect().start_instance(NOWHERE)
    text = json.dumps(entry("REQUEST"))

    def play(worker: int) -> None:
        driver = plugin.connect()
        for number in range(1250):
            driver.log(instance, text.replace("REQUEST", f"{worker}-{number}"))

    with ThreadPoolExecutor(8) as threads:
        await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(threads, play, n) for n in range(8))
        )
    await until(lambda: len(plugin.spooled()) >= 20_000)

    assert _sequences(plugin.spooled()) == list(range(1, 20_001))
    assert sorted(_ids(plugin.spooled())) == sorted(
        ids_of(f"{worker}-{number}" for worker in range(8) for number in range(1250))
    )


async def test_kill_9_leaves_what_was_spooled_and_the_sequence_goes_on(
    command: Command, plugin: PluginCommand
) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    for number in range(200):
        driver.log(instance, entry(f"r-{number}"))
    await until(lambda: len(plugin.spooled()) > 0)
    before = plugin.spooled()
    plugin.kill()
    left = plugin.spooled()

    newer = await command(name="newer").start()
    driver = newer.connect()
    driver.log(driver.start_instance(NOWHERE), entry("after"))
    await until(lambda: len(newer.spooled()) == len(left) + 2)

    assert left[: len(before)] == before
    assert _ids(left) == ids_of(f"r-{number}" for number in range(len(left) // 2))
    assert _ids(newer.spooled()) == [*_ids(left), *ids_of(["after"])]
    assert _sequences(newer.spooled()) == list(range(1, len(left) + 3))


async def test_a_stop_puts_everything_that_was_handed_over_on_disk(plugin: PluginCommand) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    for number in range(200):
        driver.log(instance, entry(f"r-{number}"))

    assert await plugin.stop() == 0

    assert _ids(plugin.spooled()) == ids_of(f"r-{number}" for number in range(200))
    assert not plugin.socket.exists()
