"""What the plugin costs its server: `python -m bench.plugin [--quick]`.

Kong's side is played over the socket, on several connections of other processes. The baseline is
kong-pdk in gevent mode with a handler that asks for the log entry and does nothing with it; the
servers take turns. Processor time is the server's alone, all its threads; it says
more than the rate where the machine does something else too.
"""

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tallyman.demo.kong_driver import KongDriver
from tallyman_kong.metrics import ENTRIES

from bench.figure import Figure, report
from bench.plugin_server import SPOOL
from bench.recorded import recorded_entry

CONNECTIONS = 4
TURNS = 5
PATIENCE_SECONDS = 60.0
CONFIG = {"sink": "http", "ingest_endpoint": "http://127.0.0.1:9/events"}
NAMES = {
    "noop": "kong-pdk, a handler that does nothing",
    "empty": "the plugin's server with nothing behind it",
    "ours": "the plugin",
}
NOOP = f"log events, {NAMES['noop']}"
NOOP_TIME = f"processor time of a log event, {NAMES['noop']}"


@dataclass
class Found:
    """What was measured of a server, one value a turn."""

    per_second: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)


def measure(is_quick: bool) -> Iterator[Figure]:
    seconds = 0.5 if is_quick else 2.0
    found = {kind: Found() for kind in NAMES}
    with tempfile.TemporaryDirectory(prefix="tallyman-") as folder, ExitStack() as stack:
        servers = {kind: stack.enter_context(_server(Path(folder), kind)) for kind in NAMES}
        for _ in range(2 if is_quick else TURNS):
            for kind, server in servers.items():
                _take_turn(server, seconds, found[kind])
        stack.close()
        held = json.loads((Path(folder) / "ours.json").read_text())
    yield from _figures(found)
    yield Figure(
        "how long one message of the log phase holds the server, p99",
        held["p99_ms"],
        "ms",
        goal="≤ 0.3",
        key="plugin_hold_p99_ms",
    )


def _figures(found: dict[str, Found]) -> Iterator[Figure]:
    for kind, name in NAMES.items():
        is_noop, is_ours = kind == "noop", kind == "ours"
        yield Figure(
            f"log events, {name}",
            median(found[kind].per_second),
            "events/s",
            baseline=None if is_noop else NOOP,
            goal="aim 0.85 × the handler that does nothing" if is_ours else None,
            key="plugin_noop" if is_noop else "plugin_vs_noop" if is_ours else None,
        )
    for kind, name in NAMES.items():
        yield Figure(
            f"processor time of a log event, {name}",
            median(found[kind].microseconds),
            "µs",
            baseline=None if kind == "noop" else NOOP_TIME,
        )


@dataclass(frozen=True)
class Running:
    socket: Path
    pid: int
    spool: Path | None

    def processor_seconds(self) -> float:
        """Of all the server's threads, to a hundredth of a second."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def spooled(self) -> int:
        """How many log entries are in the spool."""
        if self.spool is None:
            return 0
        with closing(sqlite3.connect(self.spool)) as connection:
            counted = "SELECT value FROM counter WHERE name = ?"
            row = connection.execute(counted, (ENTRIES.name,)).fetchone()
        return int(row[0]) if row else 0

    def wait_for(self, entries: int) -> None:
        """Return when so many are in the spool, if it has one."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.spool is not None and self.spooled() < entries:
            assert time.monotonic() < until, "log entries were refused"
            time.sleep(0.002)


@contextmanager
def _server(folder: Path, kind: str) -> Iterator[Running]:
    socket = folder / f"{kind}.sock"
    command = [sys.executable, "-m", "bench.plugin_server", kind, str(socket), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        while not socket.exists():
            assert process.poll() is None, "the server did not start"
            time.sleep(0.02)
        yield Running(socket, process.pid, folder / SPOOL if kind == "ours" else None)
    finally:
        process.terminate()
        process.wait()


def _take_turn(server: Running, seconds: float, found: Found) -> None:
    """The rate counts until the last one is in the spool, where there is one."""
    before = server.spooled()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first = sum(pool.starmap(_drive, [(server.socket, 0.01)] * 2))  # the processes start
        server.wait_for(before + first)
        began = server.processor_seconds()
        clock = time.perf_counter()
        done = sum(pool.starmap(_drive, [(server.socket, seconds)] * 2))
        server.wait_for(before + first + done)
        found.per_second.append(done / (time.perf_counter() - clock))
    found.microseconds.append((server.processor_seconds() - began) / done * 1e6)


def _drive(socket: Path, seconds: float) -> int:
    """Log on several connections, one after the other, and count."""
    text: Any = json.dumps(recorded_entry())
    drivers = [KongDriver(socket) for _ in range(CONNECTIONS)]
    instances = [driver.start_instance(CONFIG) for driver in drivers]
    done = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for driver, instance in zip(drivers, instances, strict=True):
            driver.log(instance, text)
            done += 1
    for driver in drivers:
        driver.close()
    return done


if __name__ == "__main__":
    report(measure)
