"""What `tallyman-kong` itself is: the parent of the server and the sender.

It starts them, starts them again when they die, passes the sinks from one to the other in memory,
and serves the metrics page. It takes no entry and sends no event.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress

from tallyman_kong.logs import configure
from tallyman_kong.page import Page
from tallyman_kong.settings import Settings, environment_of
from tallyman_kong.spool import Spool

log = logging.getLogger("tallyman_kong.supervisor")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # a process that ran this long is started again at once
MARGIN_SECONDS = 5.0  # beyond its drain, before a process that does not stop is killed


class Child:
    """One of the two processes, started again with back-off when it ends by itself."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.restarts = 0
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._settings = settings
        self._told: dict[str, bytes] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._stop = asyncio.Event()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                how = f"ended with status {await self._run_once()}"
            except OSError as err:  # no process, memory or descriptor is left, for a while
                how = f"could not be started: {err}"
            if self._stop.is_set():
                return
            self.restarts += 1
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.error("the %s %s; again in %.1f s", self.name, how, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def tell(self, name: str, line: bytes) -> None:
        """Write a line to the process, and to each that comes after it: the last of each name."""
        self._told[name] = line
        self._write(line)

    async def stop(self) -> None:
        """Have it drain and end; kill it if it does not.

        The end of its stdin says so, not SIGTERM: that would kill a process that is still starting,
        and could overtake the lines that it was told.
        """
        self._stop.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), self._settings.drain_seconds + MARGIN_SECONDS)
        except TimeoutError:
            log.error("the %s did not stop, and was killed", self.name)
            process.kill()
            await process.wait()

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tallyman_kong",
            self.name,
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that we are gone
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment_of(self._settings)},
        )
        self._process = process
        for line in self._told.values():
            self._write(line)
        if self._stop.is_set() and process.stdin is not None:  # it was told while this one started
            process.stdin.close()
        if process.stdout is not None:
            with suppress(ValueError):  # a line beyond asyncio's limit
                async for line in process.stdout:
                    self.lines.put_nowait(line)
        return await process.wait()

    def _write(self, line: bytes) -> None:
        if self.runs and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line)


def run(settings: Settings) -> None:
    configure(settings.log_level, "tallyman-kong")
    if not asyncio.run(_run(settings)):
        sys.exit(1)


async def _run(settings: Settings) -> bool:
    """Look after both until told to stop; False where a part of it ended by itself instead."""
    settings.prefix.mkdir(parents=True, exist_ok=True)
    spool = Spool(settings.spool)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server, sender = Child("server", settings), Child("sender", settings)
    serving = asyncio.create_task(server.run())
    tasks = [
        serving,
        asyncio.create_task(sender.run()),
        asyncio.create_task(_relay(server, sender)),
    ]
    if settings.metrics is not None:
        page = Page(
            spool,
            settings.spool_max_bytes,
            settings.socket,
            lambda: {child.name: (child.runs, child.restarts) for child in (server, sender)},
        )
        tasks.append(asyncio.create_task(page.serve(*settings.metrics)))
    told = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait([told, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done - {told}:
        log.error("a part of the supervisor ended, so it stops", exc_info=task.exception())
    log.info("stopping: the server first, then the sender drains")
    await server.stop()
    # What it has said is read to the end, and passed on, before the sender drains.
    await asyncio.wait([serving])
    while not server.lines.empty():
        _pass_on(server.lines.get_nowait(), sender)
    await sender.stop()
    for task in (told, *tasks):
        task.cancel()
    await asyncio.gather(told, *tasks, return_exceptions=True)
    spool.close()
    return done == {told}


async def _relay(server: Child, sender: Child) -> None:
    while True:
        _pass_on(await server.lines.get(), sender)


def _pass_on(line: bytes, sender: Child) -> None:
    if not line.endswith(b"\n"):
        log.warning("the server ended in the middle of a line, which is skipped")
        return
    sender.tell(json.loads(line)["name"], line)
