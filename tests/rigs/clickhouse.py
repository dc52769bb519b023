"""Owns a ClickHouse for tests to reach over HTTP: a container where Docker is, otherwise our own HTTP interface over chDB.

Owns no tables: a test gets a database of its own and drops nothing.
"""

import contextlib
import gc
import json
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import clickhouse_connect
from docker.errors import DockerException
from testcontainers.community.clickhouse import ClickHouseContainer

IMAGE = "clickhouse/clickhouse-server:26.9"


@dataclass(frozen=True)
class ClickHouse:
    """Where a server listens, and who may come in."""

    host: str
    port: int
    username: str = "default"
    password: str = ""

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database, dropped at the end."""
        name = f"test_{uuid.uuid4().hex}"
        with clickhouse_connect.get_client(
            host=self.host, port=self.port, username=self.username, password=self.password
        ) as client:
            client.command(f"CREATE DATABASE {name}")
            try:
                yield name
            finally:
                client.command(f"DROP DATABASE IF EXISTS {name}")


class Shim:
    """The HTTP interface over chDB as a process; its address and data stay the same over restarts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._faulty = False

    @property
    def address(self) -> ClickHouse:
        return ClickHouse("127.0.0.1", self._port)

    def start(self) -> None:
        """Start, and return when it serves; nothing to do if it already runs. Blocks."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.rigs.clickhouse_http"),
                *(str(self.directory), "--port", str(self._port)),
            ],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        first_line = self._process.stdout.readline()
        if not first_line:
            self.kill()
            raise RuntimeError("the HTTP interface over chDB did not start; its output says why")
        self._port = int(first_line)

    def stop(self) -> None:
        """Stop in good order."""
        self._end(kill=False)

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing said to clients."""
        self._end(kill=True)

    def recover(self) -> None:
        """Run again, and without faults, whatever the last test did."""
        self.start()
        if self._faulty:
            self.fail_inserts()

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        with process:  # closes its standard input, which ends it, and waits
            pass

    def fail_inserts(self, *, before: int = 0, after: int = 0, delay_seconds: float = 0.0) -> None:
        """Let the next `before` inserts fail unstored, then `after` fail though stored; delay all.

        Each call replaces what was said before; without arguments all is well again.
        """
        self._faulty = bool(before or after or delay_seconds)
        body = json.dumps({"before": before, "after": after, "delay_seconds": delay_seconds})
        url = f"http://127.0.0.1:{self._port}/rig/faults"
        with urlopen(Request(url, body.encode(), method="POST"), timeout=60):
            pass


@contextlib.contextmanager
def container() -> Iterator[ClickHouse | None]:
    """A real ClickHouse server; None where Docker or the image is not to be had."""
    with contextlib.ExitStack() as stack:
        server: ClickHouse | None = None
        with contextlib.suppress(DockerException):
            started = stack.enter_context(ClickHouseContainer(IMAGE))
            host, port = started.get_container_host_ip(), int(started.get_exposed_port(8123))
            server = ClickHouse(host, port, started.username, started.password)
        if server is None:
            with warnings.catch_warnings():  # the Docker client that failed leaves its socket open
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
        yield server
