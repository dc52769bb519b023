"""A real Postgres without Docker: Debian's package, in a directory of its own, on a free port."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rigs.ports import free_ports

INSTALLED = Path("/usr/lib/postgresql")


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database; skips, with the reason, where Postgres is not installed."""
    binaries = _binaries()
    directory = Path(tempfile.mkdtemp(prefix="tallyman-postgres-"))
    as_user = _unprivileged(directory)
    (port,) = free_ports(1)
    data = directory / "data"
    _run(as_user, binaries / "initdb", "-D", data, "-U", "tallyman", "-A", "trust", "-E", "UTF8")
    options = f"-p {port} -k {directory} -c listen_addresses=127.0.0.1 -c fsync=off"
    log = directory / "log"
    _run(as_user, binaries / "pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")
    try:
        yield f"postgresql://tallyman@127.0.0.1:{port}/postgres"
    finally:
        _run(as_user, binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("Postgres is not installed (Debian: apt-get install postgresql)")
    return Path(on_path).resolve().parent


def _unprivileged(directory: Path) -> list[str]:
    """Postgres refuses to run as root; its package brings a user."""
    if os.getuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("Postgres does not run as root, and there is no user postgres")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(as_user: list[str], *command: object) -> None:
    done = subprocess.run(
        [*as_user, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr.decode()
