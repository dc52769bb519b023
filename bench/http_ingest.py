"""How many events a second `POST /events` takes, and how long its 202 waits: `python -m bench.http_ingest [--quick]`.

64 connections to a `tallyman serve` of its own, one request after the other on each; client and
collector share the machine. A 202 means that the events survive kill -9.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from tallyman.demo import processes

from bench.figure import Figure, report

PATH = "/api/v3/openmeter/events"
CONNECTIONS = 64
GOALS = {1: "≥ 1,000", 100: "≥ 20,000"}
HEADERS = {"Content-Type": "application/json"}
EVENT = (
    b'{"specversion": "1.0", "id": "bench-%d", "source": "bench", "type": "llm.tokens", '
    b'"subject": "acme-corp", "time": "%b", '
    b'"data": {"tokens": 23, "type": "request", "provider": "openai", "model": "gpt-4o"}}'
)
_numbers = itertools.count()


def measure(is_quick: bool) -> Iterator[Figure]:
    seconds = 2.0 if is_quick else 10.0
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        key = processes.create_key(data_dir, "bench", "ingest")
        with processes.collector(data_dir, Path(folder) / "serve.log") as address:
            for size, goal in GOALS.items():
                waits = asyncio.run(_load(address, key, size, seconds))
                events = "one event" if size == 1 else f"{size} events"
                name = f"POST {PATH}, {events} a request, {CONNECTIONS} connections"
                yield Figure(
                    name,
                    len(waits) * size / seconds,
                    "events/s",
                    goal=goal,
                    key=f"http_ingest_per_s_{size}",
                )
                yield Figure(
                    f"p99 of the 202, {events}",
                    sorted(waits)[len(waits) * 99 // 100] * 1000,
                    "ms",
                    key=f"http_ingest_p99_ms_{size}",
                )


async def _load(address: str, key: str, size: int, seconds: float) -> list[float]:
    """How long each request waited."""
    waits: list[float] = []

    async def one_after_another(session: aiohttp.ClientSession, until: float) -> None:
        while time.perf_counter() < until:
            body = events(size)
            began = time.perf_counter()
            async with session.post(PATH, data=body, headers=HEADERS) as answer:
                await answer.read()
            waits.append(time.perf_counter() - began)

    async def all_connections(session: aiohttp.ClientSession, lasting: float) -> None:
        until = time.perf_counter() + lasting
        await asyncio.gather(*(one_after_another(session, until) for _ in range(CONNECTIONS)))

    async with aiohttp.ClientSession(
        address,
        headers={"Authorization": f"Bearer {key}"},
        raise_for_status=True,
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
    ) as session:
        await all_connections(session, 0.5)  # connections, and what is read on the first use
        waits.clear()
        await all_connections(session, seconds)
    return waits


def events(count: int) -> bytes:
    """New events, as the walkthroughs send them.

    Filled into a text: to make each as an object took an eighth of the processor time of both sides.
    """
    now = datetime.now(UTC).isoformat().encode()
    return b"[%b]" % b",".join([EVENT % (next(_numbers), now) for _ in range(count)])


if __name__ == "__main__":
    report(measure)
