"""Owns `tallyman` as a process: a server that runs during a test, and commands run to their end."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TALLYMAN = Path(sys.executable).with_name("tallyman")


def environment(directory: Path, **settings: str) -> dict[str, str]:
    """The settings, and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYMAN_")}
    return {
        **kept,
        "TALLYMAN_DATA_DIR": str(directory / "data"),
        "TALLYMAN_PORT": "0",
        "TERM": "dumb",
        **settings,
    }


def tallyman(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [TALLYMAN, *arguments],
        env=environment(directory, **settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Server:
    """A running server, with what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def hear(self, pattern: str) -> re.Match[str]:
        """Read on until it says this."""
        assert self.process.stdout is not None
        while (found := re.search(pattern, self.said)) is None:
            line = self.process.stdout.readline()
            assert line, f"it ended, and said only:\n{self.said}"
            self.said += line
        return found

    @property
    def port(self) -> int:
        return int(self.hear(r"listens on http://[\w.]+:(\d+)")[1])

    def ask(self, method: str, path: str, key: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Its exit status and all that it said."""
        assert self.process.stdout is not None
        self.said += self.process.stdout.read()
        return self.process.wait(timeout=30), self.said


@contextmanager
def serving(directory: Path, **settings: str) -> Iterator[Server]:
    """A server, stopped at the end at the latest."""
    process = subprocess.Popen(
        [TALLYMAN, "serve"],
        env=environment(directory, PYTHONUNBUFFERED="1", **settings),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
