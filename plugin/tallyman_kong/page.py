"""The metrics and health page on a local port."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgpack
from aiohttp import web

from tallyman_kong.metrics import (
    HEALTHY,
    PROCESS_UP,
    RESTARTS,
    SET_ASIDE_EVENTS,
    SPOOL_AGE,
    SPOOL_BYTES,
    SPOOL_MAX_BYTES,
    SPOOLED,
    Count,
    prometheus_text,
)
from tallyman_kong.spool import Figures, Spool
from tallyman_kong.spool_file import SpoolError

log = logging.getLogger("tallyman_kong.page")

RETRY_SECONDS = 2.0
ANSWER_SECONDS = 1.0


class Page:
    """`/metrics` and `/health`, from the spool's file and what the supervisor knows."""

    def __init__(
        self,
        spool: Spool,
        max_bytes: int,
        socket: Path,
        processes: Callable[[], Mapping[str, tuple[bool, int]]],
    ) -> None:
        """`processes` gives, by name, whether it runs and how often it was restarted."""
        self._spool = spool
        self._max_bytes = max_bytes
        self._socket = socket
        self._processes = processes
        self._turn = asyncio.Lock()  # the spool's connection is for one thread at a time

    async def serve(self, host: str, port: int) -> None:
        """Serve until cancelled. Waits for a port that is taken, as in a rolling restart."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/health", self._health)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            while True:
                with suppress(asyncio.TimeoutError):
                    try:
                        await web.TCPSite(runner, host, port).start()
                        break
                    except OSError as err:
                        log.warning("the metrics page waits for %s:%d: %s", host, port, err)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        figures, problems = await self._look()
        values: dict[Count, float] = {HEALTHY.of(): 0 if problems else 1}
        values[SPOOL_MAX_BYTES.of()] = self._max_bytes
        for name, (runs, restarts) in self._processes().items():
            values[PROCESS_UP.of(process=name)] = int(runs)
            values[RESTARTS.of(process=name)] = restarts
        if figures is not None:
            values.update(figures.counts)
            values[SPOOLED.of()] = figures.waiting
            values[SPOOL_BYTES.of()] = figures.used_bytes
            age = time.time() - figures.oldest_at if figures.oldest_at is not None else 0.0
            values[SPOOL_AGE.of()] = max(0.0, age)
            values[SET_ASIDE_EVENTS.of()] = figures.set_aside
        return web.Response(
            text=prometheus_text(values),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _health(self, _request: web.Request) -> web.Response:
        _, problems = await self._look()
        body = {"status": "unhealthy" if problems else "healthy", "problems": problems}
        return web.json_response(body, status=503 if problems else 200)

    async def _look(self) -> tuple[Figures | None, list[str]]:
        problems = [
            f"the {name} does not run" for name, (runs, _) in self._processes().items() if not runs
        ]
        if not await _answers(self._socket):
            problems.append("the server does not answer on its socket")
        async with self._turn:
            try:
                await asyncio.to_thread(self._spool.probe)
            except (sqlite3.Error, OSError, SpoolError) as err:
                problems.append(f"the spool cannot be written: {err}")
            try:
                figures = await asyncio.to_thread(self._spool.figures)
            except (sqlite3.Error, OSError, SpoolError) as err:
                return None, [*problems, f"the spool cannot be read: {err}"]
        if figures.used_bytes >= self._max_bytes:
            problems.append("the spool is full: new calls are refused")
        return figures, problems


async def _answers(socket: Path) -> bool:
    """Whether the server's hub is alive: any answer will do, also that there is no such method."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(msgpack.packb([0, 0, "plugin.Ping", []]))
                return bool(await reader.read(1))
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
