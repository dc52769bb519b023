"""What memory the collector takes, and whether that grows: `python -m bench.memory [--quick]`.

A `tallyman serve` of its own with chDB in it takes a million events in batches, and then another million.
Its memory is the median of what the system says while the last tenth of each million comes in.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import aiohttp
from tallyman.demo import processes

from bench.figure import Figure, memory, report
from bench.http_ingest import HEADERS, PATH, events

EVENTS = 1_000_000
BATCH = 1000
CONNECTIONS = 4
PARTS = 10
_RSS = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


def measure(is_quick: bool) -> Iterator[Figure]:
    count = EVENTS // 10 if is_quick else EVENTS
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        key = processes.create_key(data_dir, "bench", "ingest", "read")
        with processes.collector(data_dir, Path(folder) / "serve.log") as address:
            before, after = asyncio.run(_memory(address, key, count))
    yield from memory("the collector", "collector", count, before, after)


async def _memory(address: str, key: str, count: int) -> tuple[float, float]:
    """In MB, after so many events, and after as many more."""
    async with aiohttp.ClientSession(
        address, headers={"Authorization": f"Bearer {key}"}, raise_for_status=True
    ) as session:
        return await _fill(session, count), await _fill(session, count)


async def _fill(session: aiohttp.ClientSession, count: int) -> float:
    """Send so many events, and give the memory while the last of them come in."""
    batches = count // BATCH
    await _send(session, batches - batches // PARTS)
    found = []
    sending = asyncio.create_task(_send(session, batches // PARTS))
    while not sending.done():
        async with session.get("/metrics") as answer:
            found.append(_resident_mb(await answer.text()))
        await asyncio.wait([sending], timeout=0.1)
    await sending
    return median(found)


async def _send(session: aiohttp.ClientSession, batches: int) -> None:
    left = iter(range(batches))

    async def one_after_another() -> None:
        for _ in left:
            async with session.post(PATH, data=events(BATCH), headers=HEADERS):
                pass

    await asyncio.gather(*(one_after_another() for _ in range(CONNECTIONS)))


def _resident_mb(metrics: str) -> float:
    found = _RSS.search(metrics)
    assert found is not None, "the collector does not say what memory it takes"
    return float(found[1]) / 1e6


if __name__ == "__main__":
    report(measure)
