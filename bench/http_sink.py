"""The plugin's HTTP sink against Kong's bundled http-log: `python -m bench.http_sink [--quick]`.

Bytes: all that is sent for a call, heads included, http-log's as Kong 3.9 makes them. Time: from a call's
entry, or from the spool, until a `tallyman serve` of its own has answered, on one connection as both
have. http-log sends one entry a request unless its queue is configured.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from tallyman.demo import processes
from tallyman_kong import usage
from tallyman_kong.delivery import BATCH_EVENTS, Delivery, SpoolAccess
from tallyman_kong.http_sink import HttpClient
from tallyman_kong.intake import read_entry, reader
from tallyman_kong.sender import make_client
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool

from bench.figure import Figure, report
from bench.receiver import receiver
from bench.recorded import recorded_entry

EVENTS_PATH = "/api/v3/openmeter/events"
LOG_PATH = "/kong/log"
GROUP = 500
LIMIT = 8 * 1024**3
HTTP_LOG_HEAD = (
    "POST {path} HTTP/1.1\r\n"
    "User-Agent: lua-resty-http/0.17.2 (Lua) ngx_lua/10026\r\n"
    "Host: {host}\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: {length}\r\n"
    "Authorization: Bearer {token}\r\n\r\n"
)
BYTES = "bytes sent for a call, http-log, one a request"
TIME = "time of a call, http-log, one a request"


def measure(is_quick: bool) -> Iterator[Figure]:
    calls = 2_000 if is_quick else 20_000
    with tempfile.TemporaryDirectory(prefix="tallyman-") as folder:
        data_dir = Path(folder) / "data"
        token = processes.create_key(data_dir, "bench", "ingest")
        with processes.collector(data_dir, Path(folder) / "serve.log") as address:
            host = address.removeprefix("http://")
            yield Figure(BYTES, _http_log_bytes(host, token, 1), "B")
            yield Figure(
                "bytes sent for a call, http-log, 100 a request",
                _http_log_bytes(host, token, 100),
                "B",
                baseline=BYTES,
            )
            yield Figure(
                "bytes sent for a call, our HTTP sink",
                asyncio.run(_our_bytes(Path(folder), token)),
                "B",
                baseline=BYTES,
                key="plugin_vs_http_log",
            )
            yield Figure(TIME, asyncio.run(_http_log_ms(address, token, calls // 20, 1)), "ms")
            yield Figure(
                "time of a call, http-log, 100 a request",
                asyncio.run(_http_log_ms(address, token, calls, 100)),
                "ms",
                baseline=TIME,
            )
            yield Figure(
                "time of a call, our HTTP sink",
                asyncio.run(_our_ms(Path(folder), address, token, calls)),
                "ms",
                baseline=TIME,
                key="plugin_vs_http_log_time",
            )


def _entries(prefix: str, count: int) -> Iterator[dict[str, Any]]:
    recorded = recorded_entry()
    for number in range(count):
        request = {**recorded["request"], "id": f"{prefix}-{number:027d}"}
        yield {**recorded, "request": request}


def _posted(entries: list[dict[str, Any]]) -> bytes:
    """What http-log makes of them: an entry alone, or an array."""
    given: Any = entries if len(entries) > 1 else entries[0]
    return json.dumps(given, separators=(",", ":")).encode()


def _http_log_bytes(host: str, token: str, size: int) -> float:
    body = _posted(list(_entries("size", size)))
    head = HTTP_LOG_HEAD.format(path=LOG_PATH, host=host, length=len(body), token=token)
    return (len(head) + len(body)) / size


async def _our_bytes(folder: Path, token: str) -> float:
    """What a connection of the sink's carries for a full batch, read from the socket."""
    async with receiver() as taker:
        sink = HttpSink("bytes", taker.address + EVENTS_PATH, token)
        spool = _filled(folder / "bytes.db", sink, BATCH_EVENTS // 2)
        client = HttpClient(sink)
        try:
            await client.send(spool.read(sink.name, BATCH_EVENTS, LIMIT))
        finally:
            await client.close()
            spool.close()
    return taker.taken / (BATCH_EVENTS / 2)


async def _http_log_ms(address: str, token: str, calls: int, size: int) -> float:
    bodies = []
    entries = list(_entries(f"log-{size}", calls))
    bodies = [_posted(entries[at : at + size]) for at in range(0, calls, size)]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(address, headers=headers, raise_for_status=True) as session:
        began = time.perf_counter()
        for body in bodies:
            async with session.post(LOG_PATH, data=body) as answer:
                await answer.read()
        return (time.perf_counter() - began) / calls * 1000


async def _our_ms(folder: Path, address: str, token: str, calls: int) -> float:
    """The sender's own delivery, from a spool that holds them all until it is empty."""
    sink = HttpSink("time", address + EVENTS_PATH, token)
    spool = SpoolAccess(_filled(folder / "time.db", sink, calls))
    delivery = Delivery(spool, sink, make_client)
    delivery.stop()  # when the spool is empty
    began = time.perf_counter()
    await delivery.run()
    seconds = time.perf_counter() - began
    left = await spool.do(lambda it: it.figures().waiting)
    spool.close()
    assert left == 0, "the collector did not take all"
    return seconds / calls * 1000


def _filled(path: Path, sink: HttpSink, calls: int) -> Spool:
    spool = Spool(path, "bench", max_bytes=LIMIT, survives_power_loss=True)
    rules = reader(usage.configuration(None), sink)
    group = Group()
    for number, entry in enumerate(_entries(f"ours-{calls}", calls), start=1):
        read_entry(entry, rules, group)
        if number % GROUP == 0 or number == calls:
            spool.append(group)
            group = Group()
    return spool


if __name__ == "__main__":
    report(measure)
