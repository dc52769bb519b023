"""Owns stripe-mock, Stripe's own stand-in: it checks parameters by Stripe's spec, and remembers nothing."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StripeMockUnavailable(Exception):
    """stripe-mock is not installed here."""


@contextmanager
def stripe_mock() -> Iterator[str]:
    """Its address, while it runs.

    Raises:
        StripeMockUnavailable: there is none here; tests/run installs it where Go is to be had.
    """
    beside = Path(sys.executable).with_name("stripe-mock")
    program = str(beside) if beside.is_file() else shutil.which("stripe-mock")
    if program is None:
        raise StripeMockUnavailable("stripe-mock is not installed: tests/run does so with Go")
    port = _free_port()
    process = subprocess.Popen(
        [program, "-http-addr", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(address: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{address}/v1/charges", timeout=2)
        except urllib.error.HTTPError:
            return  # it answers, that a key is missing
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
