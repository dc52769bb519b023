"""The command as a whole: its processes, its page, and what it never shows."""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tallyman_kong.metrics import METRICS

from tests.rigs.plugin import PluginCommand, Receiver, children_of, entry, ids_of, until
from tests.rigs.ports import free_ports
from tests.rigs.small_disk import SmallDisk, SmallDiskUnavailable, small_disk

NOWHERE = {"ingest_endpoint": "http://127.0.0.1:9/events"}  # the discard port: nobody listens
ROOT = Path(__file__).parents[3]
Command = Callable[..., PluginCommand]


async def _get(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.text()


async def _page(port: int, path: str) -> tuple[int, str]:
    """The page, once it is there."""
    for _ in range(500):
        try:
            return await _get(port, path)
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.02)
    raise AssertionError("the page did not come")


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_server_that_is_killed_is_started_again(plugin: PluginCommand) -> None:
    before = plugin.socket.stat().st_ino

    plugin.kill_child("server")
    await until(lambda: plugin.socket.stat().st_ino != before)
    driver = plugin.connect()
    driver.log(driver.start_instance(NOWHERE), entry("after"))

    await until(lambda: [event["id"] for event in plugin.spooled()] == ids_of(["after"]))


async def test_the_server_takes_calls_while_the_sender_is_dead(plugin: PluginCommand) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)

    plugin.kill_child("sender")
    driver.log(instance, entry("r-1"))

    await until(lambda: len(plugin.spooled()) == 2)


PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def _may_be_pid_1() -> bool:
    return shutil.which("unshare") is not None and not subprocess.call([*PID_1, "true"])


@pytest.mark.skipif(not _may_be_pid_1(), reason="needs `unshare` and the right to a pid namespace")
async def test_as_pid_1_of_a_container_it_serves_and_stops(command: Command) -> None:
    plugin = await command(launcher=PID_1).start()
    assert plugin.process is not None
    [pid_1] = children_of(plugin.process.pid)

    driver = plugin.connect()
    driver.log(driver.start_instance(NOWHERE), entry("r-1"))
    two_looks = time.monotonic() + 2.0  # of kong-pdk's watchdog, which would end it
    await until(lambda: time.monotonic() > two_looks)
    driver.log(driver.start_instance(NOWHERE), entry("r-2"))
    os.kill(pid_1, signal.SIGTERM)

    assert await asyncio.to_thread(plugin.process.wait, 20) == 0
    assert [event["id"] for event in plugin.spooled()] == ids_of(["r-1", "r-2"])
    assert "ended with status" not in plugin.log()


async def test_no_process_outlives_a_killed_command(plugin: PluginCommand) -> None:
    assert plugin.process is not None
    await until(lambda: len(plugin.children()) == 2)
    children = plugin.children().values()

    os.kill(plugin.process.pid, signal.SIGKILL)
    plugin.process.wait()

    await until(lambda: not any(_runs(pid) for pid in children))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_all_processes_with_status_0(
    plugin: PluginCommand, number: signal.Signals
) -> None:
    assert plugin.process is not None
    await until(lambda: len(plugin.children()) == 2)
    children = list(plugin.children().values())

    plugin.process.send_signal(number)

    assert await asyncio.to_thread(plugin.process.wait, 20) == 0
    assert not any(_runs(pid) for pid in children)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"socket_mode": "888"}, "socket-mode must be an octal mode"),
        ({"metrics": "9542"}, "metrics must be HOST:PORT, [IPv6]:PORT or off"),
        ({"spool_max_mb": "much"}, "spool-max-mb must be a number"),
        ({"node_id": "two words"}, "node-id must be"),
        ({"log_level": "loud"}, "log-level must be"),
        ({"prefix": "/" + "x" * 100}, "prefix must have at most"),
    ],
)
async def test_a_wrong_setting_stops_the_start_with_its_name(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    command = PluginCommand(tmp_path, **options)

    command.spawn()
    assert command.process is not None
    status = await asyncio.to_thread(command.process.wait, 20)

    assert (status, said in command.log()) == (2, True)


@pytest.mark.parametrize("option", ["spool", "prefix"])
async def test_a_place_that_cannot_be_used_stops_the_start_and_is_named(
    tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("")
    options: dict[str, Any] = {option: str(tmp_path / "file" / "below")}
    command = PluginCommand(tmp_path, **options)

    command.spawn()
    assert command.process is not None
    status = await asyncio.to_thread(command.process.wait, 20)

    assert status == 1
    assert str(tmp_path / "file") in command.log()
    assert "Traceback" not in command.log()


async def test_the_page_counts_what_was_spooled_sent_and_refused(
    command: Command, receiver: Receiver
) -> None:
    [port] = free_ports(1)
    plugin = await command(metrics=f"127.0.0.1:{port}").start()
    driver = plugin.connect()
    good = driver.start_instance({"ingest_endpoint": receiver.url})
    bad = driver.start_instance({})
    for number in range(3):
        driver.log(good, entry(f"r-{number}"))
    driver.log(good, entry("stream", case="openai_stream"))
    driver.log(good, "garbage")
    driver.log(bad, entry("refused"))
    await until(lambda: len(receiver.taken) == 8 and plugin.spooled() == [])
    await until(lambda: plugin.counter("tallyman_plugin_refused_total") == 1)

    status, text = await _page(port, "/metrics")

    numbers = [line for line in text.splitlines() if line[0] != "#" and line.split()[1] != "0"]
    assert status == 200
    assert sorted(line for line in numbers if "bytes" not in line) == [
        "tallyman_plugin_bad_entries_total 1",
        "tallyman_plugin_entries_total 5",
        'tallyman_plugin_events_total{outcome="complete",usage_source="estimated"} 1',
        'tallyman_plugin_events_total{outcome="complete",usage_source="none"} 1',
        'tallyman_plugin_events_total{outcome="complete",usage_source="provider"} 6',
        "tallyman_plugin_healthy 1",
        'tallyman_plugin_process_up{process="sender"} 1',
        'tallyman_plugin_process_up{process="server"} 1',
        'tallyman_plugin_refused_total{reason="configuration"} 1',
        'tallyman_plugin_sent_total{sink="http"} 8',
    ]
    assert [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")] == [
        metric.name for metric in METRICS
    ]
    assert await _page(port, "/health") == (200, '{"status": "healthy", "problems": []}')


async def test_the_page_shows_how_much_waits_and_since_when(command: Command) -> None:
    [port] = free_ports(1)
    plugin = await command(metrics=f"127.0.0.1:{port}").start()
    driver = plugin.connect()
    driver.log(driver.start_instance(NOWHERE), entry("r-1"))
    await until(lambda: len(plugin.spooled()) == 2)

    _, text = await _page(port, "/metrics")

    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert numbers["tallyman_plugin_spool_events"] == "2"
    assert 0 < float(numbers["tallyman_plugin_spool_oldest_seconds"]) < 60
    assert float(numbers["tallyman_plugin_spool_bytes"]) > 4096


async def test_it_is_healthy_only_when_kong_may_start_and_not_while_the_server_hangs(
    command: Command,
) -> None:
    [port] = free_ports(1)
    plugin = command(metrics=f"127.0.0.1:{port}")
    plugin.spawn()
    while (await _page(port, "/health"))[0] != 200:
        pass
    assert (plugin.folder / "tallyman.json").exists()
    plugin.connect().start_instance(NOWHERE)

    os.kill(plugin.children()["server"], signal.SIGSTOP)
    status, text = await _page(port, "/health")
    os.kill(plugin.children()["server"], signal.SIGCONT)

    problems = ["the server does not answer on its socket"]
    assert (status, json.loads(text)["problems"]) == (503, problems)


async def test_a_page_whose_port_is_taken_comes_when_it_is_free(command: Command) -> None:
    [port] = free_ports(1)
    older = await command(metrics=f"127.0.0.1:{port}").start()
    await _page(port, "/health")
    newer = await command(name="newer", metrics=f"127.0.0.1:{port}").start()
    await until(lambda: "the metrics page waits for" in newer.log())

    assert await older.stop() == 0
    assert (await _page(port, "/health"))[0] == 200


async def test_a_full_spool_is_unhealthy_and_what_it_refuses_is_counted(command: Command) -> None:
    [port] = free_ports(1)
    plugin = await command(metrics=f"127.0.0.1:{port}", spool_max_mb="1").start()
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    number = 0
    while not plugin.counter("tallyman_plugin_refused_total"):
        for _ in range(100):
            driver.log(instance, entry(f"r-{number}"))
            number += 1

    status, text = await _page(port, "/health")
    await until(lambda: plugin.counter("tallyman_plugin_entries_total") == number)

    refused = plugin.counter("tallyman_plugin_refused_total", 'reason="spool_full"')
    assert (status, json.loads(text)["problems"]) == (
        503,
        ["the spool is full: new calls are refused"],
    )
    assert refused is not None
    assert [event["id"] for event in plugin.spooled()] == ids_of(
        f"r-{kept}" for kept in range(number - refused)
    )
    await until(lambda: "the spool is full: new calls are refused" in plugin.log())


async def test_a_disk_that_takes_nothing_loses_nothing_and_is_unhealthy(command: Command) -> None:
    [port] = free_ports(1)
    plugin = await command(metrics=f"127.0.0.1:{port}").start()
    driver = plugin.connect()
    instance = driver.start_instance(NOWHERE)
    driver.log(instance, entry("before"))
    await until(lambda: len(plugin.spooled()) == 2)
    assert plugin.process is not None
    everyone = [plugin.process.pid, *plugin.children().values()]

    for pid in everyone:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    for number in range(10):
        driver.log(instance, entry(f"r-{number}"))
    status, _ = await _page(port, "/health")
    spooled_then = len(plugin.spooled())
    for pid in everyone:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    await until(lambda: len(plugin.spooled()) == 22)

    assert (status, spooled_then) == (503, 2)
    assert [int(event["sequence"]) for event in plugin.spooled()] == list(range(1, 23))


def _numbers_on(disk: SmallDisk, spool: Path) -> list[int]:
    """Of the spooled events; SQLite must be on the disk's side to open the file."""
    read = (
        "import json, sys; from pathlib import Path; from tests.rigs.plugin import spooled; "
        "print([int(event['sequence']) for event in spooled(Path(sys.argv[1]))])"
    )
    command = [*disk.launcher, sys.executable, "-c", read, str(spool)]
    numbers = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [int(number) for number in json.loads(numbers)]


async def test_a_disk_that_is_full_loses_nothing_and_goes_on_when_there_is_room(
    command: Command, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", megabytes=8))
        except SmallDiskUnavailable as why:
            pytest.skip(f"needs a small file system: {why}")
        plugin = command(
            metrics=f"127.0.0.1:{port}", spool=str(disk.path / "spool.db"), launcher=disk.launcher
        )
        await plugin.start()
        driver = plugin.connect()
        instance = driver.start_instance(NOWHERE)
        driver.log(instance, entry("before"))
        await until(lambda: len(_numbers_on(disk, plugin.spool)) == 2)

        disk.fill(leave_bytes=0)
        for number in range(10):
            driver.log(instance, entry(f"r-{number}"))
        await until(lambda: "disk is full" in plugin.log())
        status, _ = await _page(port, "/health")
        disk.make_room()
        await until(lambda: len(_numbers_on(disk, plugin.spool)) == 22)

        assert status == 503
        assert _numbers_on(disk, plugin.spool) == list(range(1, 23))
        assert not list(disk.from_outside.glob("*.corrupt-*"))
        assert await plugin.stop() == 0


def _canaries(kind: str) -> dict[str, str]:
    places = ["prompt", "answer", "key", "header", "query", "authorization", "unnamed", "token"]
    return {place: f"canary-{kind}-{place}" for place in places}


async def test_no_prompt_answer_key_or_unnamed_header_is_ever_written(
    command: Command, receiver: Receiver
) -> None:
    [port] = free_ports(1)
    token = "canary-token-of-the-sink"
    plugin = await command(metrics=f"127.0.0.1:{port}", log_level="debug").start()
    driver = plugin.connect()
    config = {"ingest_endpoint": receiver.url, "api_token": token}
    instance = driver.start_instance(config)
    driver.start_instance({**config, "ingest_endpoint": NOWHERE["ingest_endpoint"]})
    canary = _canaries("x")

    async def refuse_once(_: Any) -> Any:
        return aiohttp.web.Response(status=202 if receiver.received else 500)

    receiver.answer = refuse_once
    spied = entry("r-1", case="openai_chat_payloads")
    spied["request"]["headers"] |= {
        "x-api-key": canary["key"],
        "x-secret": canary["header"],
        "authorization": f"Bearer {canary['authorization']}",
        "cookie": canary["unnamed"],
    }
    spied["request"]["querystring"] = {"apikey": canary["query"]}
    spied["request"]["url"] += f"?apikey={canary['query']}"
    spied["ai"]["proxy"]["payload"] = {
        "request": json.dumps({"messages": [{"content": canary["prompt"]}]}),
        "response": json.dumps({"choices": [{"content": canary["answer"]}]}),
    }
    driver.log(instance, spied)
    driver.log(instance, json.dumps(spied)[:-1])  # not JSON: what is said of it must not quote it
    driver.log(instance, {**spied, "request": {**spied["request"], "id": None}})
    await until(lambda: len(receiver.taken) == 2)
    _, page = await _page(port, "/metrics")

    written = (
        b"".join(file.read_bytes() for file in plugin.folder.iterdir() if file.is_file())
        + page.encode()
    )
    sent = json.dumps(receiver.taken)
    assert b"canary" not in written
    assert "canary" not in sent
    assert ids_of(["r-1"]) == receiver.ids()


@pytest.mark.parametrize("attempt", range(3))
async def test_a_stop_right_after_the_start_sends_what_was_taken(
    command: Command, receiver: Receiver, attempt: int
) -> None:
    """The sender may still be starting when it is told to drain."""
    plugin = await command().start()
    driver = plugin.connect()
    instance = driver.start_instance({"ingest_endpoint": receiver.url})
    driver.log(instance, entry("at once"))

    status = await plugin.stop()

    assert status == 0
    assert receiver.ids() == ids_of(["at once"])
    assert plugin.spooled() == []
