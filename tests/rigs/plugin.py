"""Owns the plugin's command, started as in production, and a receiver for what it sends.

Owns no part of the plugin: the receiver records what comes in and answers as a test tells it.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tallyman.demo.kong_driver import KongDriver

GOLDEN = Path(__file__).parents[1] / "golden"
PATIENCE_SECONDS = 30.0


async def until(condition: Callable[[], Any], patience: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + patience
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come to hold in time"
        await asyncio.sleep(0.02)


def entry(request_id: str = "r-1", case: str = "openai_chat", **changes: Any) -> dict[str, Any]:
    """A recorded log entry under another request id."""
    recorded = json.loads((GOLDEN / "kong-3.9.3" / f"{case}.json").read_text())["serialized_log"]
    recorded["request"] = {**recorded["request"], "id": request_id}
    return {**recorded, **changes}


def ids_of(requests: Iterable[str]) -> list[str]:
    """The ids of the events that calls with these request ids give, in order."""
    return [f"{request}:proxy:{kind}" for request in requests for kind in ("request", "response")]


@dataclass
class Received:
    """One batch as the receiver got it, and when."""

    at: float
    headers: Mapping[str, str]
    events: list[dict[str, Any]]
    status: int = 0


@dataclass
class Receiver:
    """An ingest endpoint that records batches and answers by `answer`, 202 at first."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Awaitable[web.Response]] | None = None

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The events that were answered with 2xx, in the order in which they came."""
        return [event for batch in self.received if batch.status < 300 for event in batch.events]

    def ids(self) -> list[str]:
        return [event["id"] for event in self.taken]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        batch = Received(time.monotonic(), request.headers.copy(), json.loads(await request.read()))
        response = web.Response(status=202) if self.answer is None else await self.answer(batch)
        batch.status = response.status
        self.received.append(batch)
        return response


class PluginCommand:
    """`python -m tallyman_kong` with its socket, spool and log in one folder."""

    def __init__(
        self,
        folder: Path,
        name: str = "plugin",
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
        **options: str,
    ) -> None:
        self.folder = folder
        self.socket = folder / "tallyman.sock"
        self.spool = Path(options.pop("spool", str(folder / "spool.db")))
        self.log_file = folder / f"{name}.log"
        given = {
            "prefix": str(folder),
            "metrics": "off",
            "node_id": "kong-1",
            "drain_seconds": "5",
            **options,
        }
        flags = [part for key, value in given.items() for part in (f"--{_flag(key)}", value)]
        self._command = [*launcher, sys.executable, "-m", "tallyman_kong", *flags]
        self._command += ["--spool", str(self.spool)]
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._drivers: list[KongDriver] = []

    async def start(self) -> "PluginCommand":
        """Start, and return when this server, not one before it, has the socket."""
        before = self.socket.stat().st_ino if self.socket.exists() else 0
        self.spawn()
        await until(lambda: self.socket.exists() and self.socket.stat().st_ino != before)
        return self

    def spawn(self) -> None:
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
            )

    async def stop(self) -> int:
        """SIGTERM; gives the exit status."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, PATIENCE_SECONDS)

    async def run_other(self, role: str) -> str:
        """Run another of the command's roles with the same settings; gives what it prints."""
        process = await asyncio.create_subprocess_exec(
            *self._command, role, env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode()

    def kill(self) -> None:
        """kill -9 of the command and of all that it started."""
        assert self.process is not None
        pids = [self.process.pid, *self.children().values()]  # it first: it would start them again
        with contextlib.ExitStack() as stack:
            watched = [os.pidfd_open(pid) for pid in pids]
            for descriptor in watched:
                stack.callback(os.close, descriptor)
            for descriptor in watched:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in watched:  # a process ends a while after its signal, writing till then
                ended = select.poll()  # not select(), which takes no descriptor beyond 1,023
                ended.register(descriptor, select.POLLIN)
                assert ended.poll(PATIENCE_SECONDS * 1000), "a killed process did not end"
        self.process.wait(PATIENCE_SECONDS)

    def children(self) -> dict[str, int]:
        """The pids of the server and the sender, by role."""
        assert self.process is not None
        roles = {}
        for pid in children_of(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            roles[words[3].decode()] = pid
        return roles

    def connect(self) -> KongDriver:
        self._drivers.append(KongDriver(self.socket))
        return self._drivers[-1]

    def close(self) -> None:
        """End everything that this has started."""
        for driver in self._drivers:
            driver.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def log(self) -> str:
        return self.log_file.read_text()

    def kill_child(self, role: str) -> None:
        """kill -9 of the server or the sender."""
        os.kill(self.children()[role], signal.SIGKILL)

    def set_aside(self) -> list[tuple[str, str]]:
        """The ids of the events that are set aside, with the reasons."""
        with closing(sqlite3.connect(self.spool)) as connection:
            rows = connection.execute("SELECT body, reason FROM set_aside ORDER BY position")
            return [(json.loads(body)["id"], reason) for body, reason in rows]

    def counter(self, name: str, labels: str = "") -> int | None:
        """A counter as the spool's file has it; without labels the sum over all."""
        with closing(sqlite3.connect(self.spool)) as connection:
            value = connection.execute(
                "SELECT sum(value) FROM counter WHERE name = ? AND labels LIKE ?",
                (name, labels or "%"),
            ).fetchone()[0]
        return None if value is None else int(value)

    def spooled(self) -> list[dict[str, Any]]:
        return spooled(self.spool)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spooled(path: Path) -> list[dict[str, Any]]:
    """The events in a spool file, in order."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute("SELECT body FROM event ORDER BY position").fetchall()
        except sqlite3.OperationalError:
            return []  # its tables are not there yet
    return [json.loads(body) for (body,) in rows]


def _flag(key: str) -> str:
    return key.replace("_", "-")
