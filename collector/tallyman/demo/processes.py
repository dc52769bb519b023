"""The demo's programs, started as a user would start them: the collector and the plugin server.

It does not say what is played into them.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tallyman.errors import Unavailable

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


@contextmanager
def collector(data_dir: Path, log: Path) -> Iterator[str]:
    """`tallyman serve` on a free port; gives its address."""
    environment = {
        "TALLYMAN_DATA_DIR": str(data_dir),
        "TALLYMAN_PORT": "0",
        "TALLYMAN_BILLING_INTERVAL_SECONDS": "0",  # the demo bills by command
    }
    with _running([sys.executable, "-m", "tallyman", "serve"], environment, log) as process:
        yield _said_in(log, "Tallyman listens on ", ";", process)


def create_key(data_dir: Path, name: str, *scopes: str) -> str:
    """`tallyman keys create`; gives the key, which without scopes may send and read."""
    command = [sys.executable, "-m", "tallyman", "keys", "create", "--name", name]
    for scope in scopes or ("ingest", "read"):
        command += ["--scope", scope]
    result = subprocess.run(  # noqa: S603 – our own command
        command,
        env={**_without_settings(), "TALLYMAN_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Unavailable(f"no API key could be made: {result.stderr.strip()}")
    return result.stdout.strip()


def tallyman(data_dir: Path, *arguments: str) -> None:
    """A command, which prints for itself.

    Raises:
        Unavailable: it failed, and has said why.
    """
    result = subprocess.run(  # noqa: S603 – our own command
        [sys.executable, "-m", "tallyman", *arguments],
        env={**_without_settings(), "TALLYMAN_DATA_DIR": str(data_dir)},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if result.returncode:
        raise Unavailable(f"tallyman {' '.join(arguments)} ended with {result.returncode}")


@contextmanager
def plugin_server(log: Path) -> Iterator[Path]:
    """`tallyman-kong` with a new spool; gives its socket. On leaving, it has sent what it spooled."""
    with tempfile.TemporaryDirectory(prefix="tallyman-") as folder:  # a socket's path is short
        command = [sys.executable, "-m", "tallyman_kong", "--prefix", folder, "--metrics", "off"]
        command += ["--spool", f"{folder}/spool.db", "--node-id", "demo-gateway"]
        socket = Path(folder) / "tallyman.sock"
        with _running(command, {}, log) as process:
            _wait_for(socket.exists, process, log)
            yield socket


@contextmanager
def stripe_mock(program: str, log: Path) -> Iterator[str]:
    """Stripe's own stand-in on free ports; gives its address."""
    anywhere = "127.0.0.1:0"  # of HTTPS too, which has one port for all otherwise
    command = [program, "-http-addr", anywhere, "-https-addr", anywhere]
    with _running(command, {}, log) as process:
        address = _said_in(log, "Listening for HTTP at address: ", "\n", process)
        yield f"http://{address}"


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 – our own command
            command,
            env={**_without_settings(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said_in(log: Path, before: str, behind: str, process: subprocess.Popen[bytes]) -> str:
    """What a program says between two texts, once it has."""
    _wait_for(lambda: behind in log.read_text().partition(before)[2], process, log)
    return log.read_text().partition(before)[2].partition(behind)[0]


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(f"a program of the demo did not start:\n{log.read_text().strip()}")
        time.sleep(0.05)


def _without_settings() -> dict[str, str]:
    """The environment without the user's own TALLYMAN_ settings: the demo has a store of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TALLYMAN_")}
