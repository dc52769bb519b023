"""Requests a second to a `tallyman serve` of its own: `python -m bench.api [--quick]`.

Sixteen connections, one request after the other on each; client and collector share the machine.
What is measured takes turns, a second at a time, with `/healthz`, which touches no store. Events that
are sent are measured by `http_ingest.py`.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tallyman.demo import processes

from bench.figure import Figure, report

API = "/api/v3/openmeter"
CONNECTIONS = 16
CUSTOMERS = 1000


@dataclass(frozen=True)
class Ask:
    """A request: how it is sent, and how many of `unit` it is worth."""

    name: str
    send: Callable[[aiohttp.ClientSession], Any]
    worth: int = 1
    unit: str = "requests/s"
    baseline: str | None = None


def customer(number: int) -> dict[str, Any]:
    """One with a subject of its own."""
    key = f"customer-{number}"
    return {"key": key, "name": key, "usage_attribution": {"subject_keys": [key]}}


HEALTHZ = Ask("GET /healthz", lambda session: session.get("/healthz"))
ASKED = (
    HEALTHZ,
    Ask(
        f"GET /customers, a page of 20 of {CUSTOMERS}",
        lambda session: session.get(f"{API}/customers"),
        baseline=HEALTHZ.name,
    ),
)


def measure(is_quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        key = processes.create_key(data_dir, "bench", "admin")
        with processes.collector(data_dir, Path(folder) / "serve.log") as address:
            done = asyncio.run(_measure(address, key, 1 if is_quick else 4))
    for ask in ASKED:
        requests, seconds = done[ask.name]
        yield Figure(ask.name, requests * ask.worth / seconds, ask.unit, ask.baseline)


async def _measure(address: str, key: str, turns: int) -> dict[str, tuple[int, float]]:
    """Requests and seconds, by name."""
    headers = {"Authorization": f"Bearer {key}"}
    done = {ask.name: (0, 0.0) for ask in ASKED}
    async with aiohttp.ClientSession(address, headers=headers, raise_for_status=True) as session:
        for number in range(CUSTOMERS):
            await session.post(f"{API}/customers", json=customer(number))
        for ask in ASKED:  # connections, and what is read on the first use
            await _load(session, ask, 0.2)
        for ask in ASKED * turns:
            requests, seconds = await _load(session, ask, 1.0)
            before = done[ask.name]
            done[ask.name] = before[0] + requests, before[1] + seconds
    return done


async def _load(session: aiohttp.ClientSession, ask: Ask, seconds: float) -> tuple[int, float]:
    started = time.perf_counter()

    async def one_after_another() -> int:
        done = 0
        while time.perf_counter() < started + seconds:
            async with ask.send(session) as answer:
                await answer.read()
            done += 1
        return done

    counts = await asyncio.gather(*(one_after_another() for _ in range(CONNECTIONS)))
    return sum(counts), time.perf_counter() - started


if __name__ == "__main__":
    report(measure)
