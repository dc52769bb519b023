"""Owns examples/fastapi_agent as a process: started as its README says, on a free port.

It does not know what is asked of it.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_agent"
ADDRESS = re.compile(r"running on (http://[\d.:]+)")
PATIENCE_SECONDS = 30.0


@contextmanager
def agent(log: Path, collector: str, key: str) -> Iterator[str]:
    """The application; gives its address. On leaving, it has sent its events or given them up."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--app-dir", str(EXAMPLE)],
            env={**os.environ, "KONNECT_API_URL": collector, "KONNECT_TOKEN": key},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _address(log, process)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := ADDRESS.search(log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found[1]
