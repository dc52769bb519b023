"""The sender over HTTP, against a receiver that answers as real ones do on bad days."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from tests.rigs.plugin import PluginCommand, Received, Receiver, entry, ids_of, until

Command = Callable[..., PluginCommand]


def _hand_over(plugin: PluginCommand, receiver: Receiver, count: int, **config: object) -> None:
    driver = plugin.connect()
    instance = driver.start_instance({"ingest_endpoint": receiver.url, **config})
    for number in range(count):
        driver.log(instance, entry(f"r-{number}"))


def _all(count: int) -> list[str]:
    return ids_of(f"r-{number}" for number in range(count))


async def test_what_was_acknowledged_is_sent_once_and_in_order(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    await asyncio.to_thread(_hand_over, plugin, receiver, 1000)
    await until(lambda: len(receiver.taken) >= 2000 and plugin.spooled() == [])

    assert receiver.ids() == _all(1000)
    assert plugin.counter("tallyman_plugin_sent_total") == 2000


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 503])
async def test_an_answer_that_may_change_is_asked_for_again_and_nothing_is_lost(
    plugin: PluginCommand, receiver: Receiver, status: int
) -> None:
    async def refuse_twice(_: Received) -> web.Response:
        return web.Response(status=202 if len(receiver.received) >= 2 else status)

    receiver.answer = refuse_twice
    await asyncio.to_thread(_hand_over, plugin, receiver, 10)
    await until(lambda: plugin.counter("tallyman_plugin_sent_total") == 20)

    assert receiver.ids() == _all(10)
    assert plugin.counter("tallyman_plugin_send_errors_total", f'kind="http_{status}"') == 2


async def test_a_receiver_that_hangs_is_asked_again_after_the_time_out(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    forever = asyncio.Event()

    async def hang_once(_: Received) -> web.Response:
        if not forever.is_set():
            forever.set()
            await asyncio.sleep(3600)
        return web.Response(status=202)

    receiver.answer = hang_once
    await asyncio.to_thread(_hand_over, plugin, receiver, 3, timeout=300)
    await until(lambda: len(receiver.taken) == 6)

    assert receiver.ids() == _all(3)
    assert plugin.counter("tallyman_plugin_send_errors_total", 'kind="timeout"') == 1


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "a date"])
async def test_retry_after_is_waited_for(
    plugin: PluginCommand, receiver: Receiver, as_date: bool
) -> None:
    async def later(_: Received) -> web.Response:
        if receiver.received:
            return web.Response(status=202)
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        value = format_datetime(at, usegmt=True) if as_date else "3"
        return web.Response(status=503, headers={"retry-after": value})

    receiver.answer = later
    await asyncio.to_thread(_hand_over, plugin, receiver, 1)
    await until(lambda: len(receiver.taken) == 2)

    first, second = receiver.received
    assert second.at - first.at >= 3.0


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_poison_event_is_set_aside_and_every_other_arrives(
    plugin: PluginCommand, receiver: Receiver, status: int
) -> None:
    poison = {"r-3:proxy:request", "r-17:proxy:response"}

    async def refuse_poison(batch: Received) -> web.Response:
        bad = any(event["id"] in poison for event in batch.events)
        return web.Response(status=status if bad else 202, text="data.tokens is bad")

    receiver.answer = refuse_poison
    await asyncio.to_thread(_hand_over, plugin, receiver, 20)
    await until(lambda: plugin.set_aside() and plugin.spooled() == [])

    assert receiver.ids() == [event for event in _all(20) if event not in poison]
    assert plugin.set_aside() == [
        (event, f"status {status}: data.tokens is bad") for event in _all(20) if event in poison
    ]
    assert plugin.counter("tallyman_plugin_set_aside_total") == 2
    await until(lambda: all(event in plugin.log() for event in poison))


async def test_batches_grow_again_after_one_that_was_too_large(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    async def refuse_poison(batch: Received) -> web.Response:
        bad = any(event["id"] == "r-3:proxy:request" for event in batch.events)
        return web.Response(status=413 if bad else 202)

    receiver.answer = refuse_poison
    await asyncio.to_thread(_hand_over, plugin, receiver, 20)
    await until(lambda: plugin.set_aside() and plugin.spooled() == [])
    receiver.received.clear()
    go_on = asyncio.Event()

    async def wait(_: Received) -> web.Response:
        await go_on.wait()
        return web.Response(status=202)

    receiver.answer = wait
    await asyncio.to_thread(_hand_over, plugin, receiver, 1000)
    await until(lambda: len(plugin.spooled()) == 2000)
    go_on.set()
    await until(lambda: len(receiver.taken) == 2000)

    assert max(len(batch.events) for batch in receiver.received) > 100


async def test_what_was_set_aside_can_be_sent_again(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    async def refuse(_: Received) -> web.Response:
        return web.Response(status=400)

    receiver.answer = refuse
    await asyncio.to_thread(_hand_over, plugin, receiver, 2)
    await until(lambda: len(plugin.set_aside()) == 4)

    receiver.answer = None
    said = await plugin.run_other("return")
    await until(lambda: len(receiver.taken) == 4 and plugin.spooled() == [])

    assert said == "4 events are sent again\n"
    assert receiver.ids() == _all(2)
    assert plugin.set_aside() == []
    assert plugin.counter("tallyman_plugin_spool_events") == 0


async def test_a_stop_is_bounded_also_when_the_receiver_hangs(
    command: Command, receiver: Receiver
) -> None:
    async def hang(_: Received) -> web.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    receiver.answer = hang
    plugin = await command(drain_seconds="0.5").start()
    await asyncio.to_thread(_hand_over, plugin, receiver, 2, timeout=600_000)
    await until(lambda: len(plugin.spooled()) == 4)
    stopped_at = time.monotonic()

    assert await plugin.stop() == 0
    assert time.monotonic() - stopped_at < 5.0
    assert [event["id"] for event in plugin.spooled()] == _all(2)


async def test_a_new_token_sends_at_once_what_the_old_one_could_not(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    async def check(batch: Received) -> web.Response:
        known = batch.headers.get("authorization") == "Bearer right"
        return web.Response(status=202 if known else 401, headers={"retry-after": "600"})

    receiver.answer = check
    await asyncio.to_thread(_hand_over, plugin, receiver, 5, api_token="wrong")
    await until(lambda: len(receiver.received) == 1)

    plugin.connect().start_instance({"ingest_endpoint": receiver.url, "api_token": "right"})
    await until(lambda: len(receiver.taken) == 10)

    assert receiver.ids() == _all(5)


async def test_a_token_that_comes_back_is_used_again(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    driver = plugin.connect()
    for number, token in enumerate(("one", "two", "one")):
        config = {"ingest_endpoint": receiver.url, "api_token": token}
        driver.log(driver.start_instance(config), entry(f"r-{number}"))
        await until(lambda: len(receiver.taken) == 2 * (number + 1))  # noqa: B023 - awaited here

    assert [batch.headers["authorization"] for batch in receiver.received if batch.events] == [
        "Bearer one",
        "Bearer two",
        "Bearer one",
    ]


async def test_two_plugins_with_one_endpoint_send_each_with_its_own_token(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    driver = plugin.connect()
    for tenant in ("a", "b"):
        config = {"__plugin_id": tenant, "ingest_endpoint": receiver.url, "api_token": tenant}
        instance = driver.start_instance(config)
        driver.log(instance, entry(f"of-{tenant}"))
    await until(lambda: len(receiver.taken) == 4)

    assert {
        (batch.headers["authorization"], event["id"].partition(":")[0])
        for batch in receiver.received
        for event in batch.events
    } == {("Bearer a", "of-a"), ("Bearer b", "of-b")}


async def test_a_corrected_endpoint_takes_what_was_spooled_for_the_wrong_one(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    driver = plugin.connect()
    wrong = {"__plugin_id": "p-1", "ingest_endpoint": receiver.url + "/typo"}
    driver.log(driver.start_instance(wrong), entry("r-1"))
    await until(lambda: plugin.counter("tallyman_plugin_send_errors_total", 'kind="http_404"'))

    driver.start_instance({"__plugin_id": "p-1", "ingest_endpoint": receiver.url})
    await until(lambda: len(receiver.taken) == 2)

    assert receiver.ids() == ids_of(["r-1"])


async def test_a_stop_sends_what_is_spooled(plugin: PluginCommand, receiver: Receiver) -> None:
    await asyncio.to_thread(_hand_over, plugin, receiver, 500)
    status = await plugin.stop()

    assert status == 0
    assert receiver.ids() == _all(500)
    assert plugin.spooled() == []


async def test_a_stop_keeps_what_the_sink_does_not_take_and_the_next_start_sends_it(
    command: Command, plugin: PluginCommand, receiver: Receiver
) -> None:
    async def refuse(_: Received) -> web.Response:
        return web.Response(status=503, headers={"retry-after": "600"})

    receiver.answer = refuse
    await asyncio.to_thread(_hand_over, plugin, receiver, 20, api_token="tm_key")
    await until(lambda: receiver.received)
    stopped_at = time.monotonic()
    status = await plugin.stop()

    assert status == 0
    assert time.monotonic() - stopped_at < 5.0  # it does not wait out the 600 s, nor the drain
    assert [event["id"] for event in plugin.spooled()] == _all(20)

    receiver.answer = None
    newer = command(name="newer", environment={"TALLYMAN_KONG_API_TOKEN": "tm_key"})
    await newer.start()
    await until(lambda: len(receiver.taken) == 40)

    assert receiver.ids() == _all(20)
    assert receiver.received[-1].headers["authorization"] == "Bearer tm_key"


async def test_without_its_token_an_old_sink_waits_until_kong_sends_it(
    command: Command, plugin: PluginCommand, receiver: Receiver
) -> None:
    async def refuse(_: Received) -> web.Response:
        return web.Response(status=503)

    receiver.answer = refuse
    await asyncio.to_thread(_hand_over, plugin, receiver, 3, api_token="tm_key")
    await until(lambda: receiver.received)
    await plugin.stop()
    receiver.received.clear()
    receiver.answer = None

    newer = await command(name="newer").start()
    await until(lambda: "waits for its secret" in newer.log())
    newer.connect().start_instance({"ingest_endpoint": receiver.url, "api_token": "tm_key"})
    await until(lambda: len(receiver.taken) == 6)

    assert {batch.headers["authorization"] for batch in receiver.received} == {"Bearer tm_key"}


async def test_a_sender_that_is_killed_is_started_again_and_has_the_token(
    plugin: PluginCommand, receiver: Receiver
) -> None:
    await asyncio.to_thread(_hand_over, plugin, receiver, 2, api_token="tm_key")
    await until(lambda: len(receiver.taken) == 4)

    plugin.kill_child("sender")
    driver = plugin.connect()
    instance = driver.start_instance({"ingest_endpoint": receiver.url, "api_token": "tm_key"})
    driver.log(instance, entry("after"))
    await until(lambda: ids_of(["after"])[1] in receiver.ids())

    assert {batch.headers["authorization"] for batch in receiver.received} == {"Bearer tm_key"}


async def test_of_two_overlapping_senders_one_sends(
    command: Command, plugin: PluginCommand, receiver: Receiver
) -> None:
    old = plugin.connect()
    instance = old.start_instance({"ingest_endpoint": receiver.url})
    newer = await command(name="newer").start()
    await asyncio.to_thread(_hand_over, newer, receiver, 300)
    for number in range(300):
        old.log(instance, entry(f"old-{number}"))
    assert await plugin.stop() == 0
    await until(lambda: newer.spooled() == [])

    assert sorted(receiver.ids()) == sorted(
        _all(300) + ids_of(f"old-{number}" for number in range(300))
    )


async def test_a_sender_that_waits_for_another_stops_at_once(
    command: Command, plugin: PluginCommand
) -> None:
    newer = await command(name="newer").start()
    await until(lambda: len(newer.children()) == 2)
    stopped_at = time.monotonic()

    assert await newer.stop() == 0
    assert time.monotonic() - stopped_at < 4.0
    assert plugin.process is not None
    assert plugin.process.poll() is None


async def test_a_heartbeat_says_how_far_the_node_has_numbered_and_what_waits(
    command: Command, receiver: Receiver
) -> None:
    async def refuse_poison(batch: Received) -> web.Response:
        await asyncio.sleep(0)
        return web.Response(status=400 if "poison" in str(batch.events) else 202)

    receiver.answer = refuse_poison
    plugin = await command(heartbeat_seconds="0.2").start()
    driver = plugin.connect()
    instance = driver.start_instance({"ingest_endpoint": receiver.url})
    for request in ("r-1", "poison", "r-2"):
        driver.log(instance, entry(request))
    await until(lambda: _heard(receiver).get("set_aside") == 2)
    last = receiver.taken[-1]

    assert last["type"] == "tallyman.heartbeat"
    assert (last["nodeid"], last["subject"], "sequence" in last) == ("kong-1", "kong-1", False)
    assert last["data"] == {
        "first": 1, "newest": 6, "oldest": None, "waiting": 0, "set_aside": 2,
        "set_aside_ranges": [[3, 4]], "refused": 0, "bad": 0, "sinks": 1,
    }  # fmt: skip


def _heard(receiver: Receiver) -> dict[str, Any]:
    """What the last heartbeat said."""
    beats = [event["data"] for event in receiver.taken if event["type"] == "tallyman.heartbeat"]
    return beats[-1] if beats else {}
