"""What the plugin costs its server: `python -m bench.plugin [--quick]`.

Kong's side is played over the socket, on several connections of another process. The baseline is the
same server with a handler that asks for the log entry and does nothing with it; the two take turns.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tallyman.demo.kong_driver import KongDriver

from bench.figure import Figure, report
from bench.recorded import recorded_entry

CONNECTIONS = 4
TURNS = 5
NOOP = "log events, a handler that does nothing"
CONFIG = {"sink": "http", "ingest_endpoint": "http://127.0.0.1:9/events"}


def measure(is_quick: bool) -> Iterator[Figure]:
    seconds = 0.5 if is_quick else 2.0
    found: dict[str, list[float]] = {"noop": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="tallyman-") as folder:
        with _server(Path(folder), "noop") as noop, _server(Path(folder), "ours") as ours:
            for _ in range(2 if is_quick else TURNS):
                found["noop"].append(_per_second(noop, seconds))
                found["ours"].append(_per_second(ours, seconds))
        held = json.loads((Path(folder) / "ours.json").read_text())
    yield Figure(NOOP, median(found["noop"]), "events/s", key="plugin_noop")
    yield Figure(
        "log events, the plugin",
        median(found["ours"]),
        "events/s",
        baseline=NOOP,
        goal="aim 0.85 × the handler that does nothing",
        key="plugin_vs_noop",
    )
    yield Figure(
        "how long one log handler holds the server, p99",
        held["p99_ms"],
        "ms",
        goal="≤ 0.3",
        key="plugin_hold_p99_ms",
    )


@contextmanager
def _server(folder: Path, kind: str) -> Iterator[Path]:
    socket = folder / f"{kind}.sock"
    command = [sys.executable, "-m", "bench.plugin_server", kind, str(socket), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        while not socket.exists():
            assert process.poll() is None, "the server did not start"
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait()


def _per_second(socket: Path, seconds: float) -> float:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.starmap(_drive, [(socket, seconds)] * 2)
    return sum(counts) / seconds


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
