"""The plugin's memory under load: `python -m bench.plugin_memory [--quick]`.

The command as in production, its three processes together, with an HTTP sink that takes everything:
after a million events (half as many calls), and after the next million, each sent and acknowledged.
"""

import asyncio
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tallyman.demo.kong_driver import KongDriver

from bench.figure import Figure, memory, report
from bench.receiver import receiver
from bench.recorded import recorded_entry
from tests.rigs.plugin import PluginCommand, until

EVENTS = 1_000_000
FEW_EVENTS = 20_000
EVENTS_A_CALL = 2
CONNECTIONS = 4
PATIENCE_SECONDS = 3600.0


def measure(is_quick: bool) -> Iterator[Figure]:
    events = FEW_EVENTS if is_quick else EVENTS
    first, second = asyncio.run(_megabytes(events))
    yield from memory("the plugin's processes", "plugin", events, first, second)


async def _megabytes(events: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="tallyman-") as folder:
        plugin = await PluginCommand(Path(folder)).start()
        try:
            async with receiver() as sink:
                url = f"{sink.address}/events"
                found = []
                for turn in (1, 2):
                    await asyncio.to_thread(_play, plugin.socket, url, events // EVENTS_A_CALL)
                    await until(lambda turn=turn: _sent(plugin) == turn * events, PATIENCE_SECONDS)  # type: ignore[misc]
                    found.append(_resident(plugin))
                await plugin.stop()
        finally:
            plugin.close()
    return found[0], found[1]


def _play(socket: Path, url: str, calls: int) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(_drive, (socket, url, calls))


def _drive(socket: Path, url: str, calls: int) -> None:
    text = json.dumps(recorded_entry())
    drivers = [KongDriver(socket) for _ in range(CONNECTIONS)]
    instances = [driver.start_instance({"ingest_endpoint": url}) for driver in drivers]
    for number in range(calls):
        at = number % CONNECTIONS
        drivers[at].log(instances[at], text)
    for driver in drivers:
        driver.close()


def _sent(plugin: PluginCommand) -> int:
    assert not plugin.counter("tallyman_plugin_refused_total"), "the disk is too slow for this"
    return plugin.counter("tallyman_plugin_sent_total") or 0


def _resident(plugin: PluginCommand) -> float:
    """Of the supervisor, the server and the sender, in MB."""
    assert plugin.process is not None
    return sum(_resident_mb(pid) for pid in (plugin.process.pid, *plugin.children().values()))


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(kilobytes) / 1000


if __name__ == "__main__":
    report(measure)
