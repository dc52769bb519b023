"""The directory of an embedded collector: who may use it, and the socket that its commands ask.

What is in its databases is the stores' business.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tallyman.errors import ConfigurationError

LONGEST_SOCKET_PATH: Final = 107  # bytes; sun_path of Linux, less its NUL
_BESIDE: Final = ("-wal", "-shm", "-journal")  # a file of SQLite's; a backup has none


def socket_path(directory: Path) -> Path:
    """Where a running server listens for its own commands."""
    return directory / "tallyman.sock"


def database_path(directory: Path) -> Path:
    """SQLite's file."""
    return directory / "tallyman.sqlite3"


def events_path(directory: Path) -> Path:
    """ChDB's directory."""
    return directory / "chdb"


def write_ahead_path(directory: Path) -> Path:
    """SQLite's file of what is accepted and not yet in chDB, which puts it beside its directory."""
    return directory / "chdb-ahead.sqlite3"


def databases(directory: Path) -> tuple[Path, ...]:
    """Everything that is stored: SQLite's files, with what belongs to them, and chDB's directory."""
    of_sqlite = database_path(directory), write_ahead_path(directory)
    files = (at.with_name(f"{at.name}{end}") for at in of_sqlite for end in ("", *_BESIDE))
    return *files, events_path(directory)


def staged_path(directory: Path) -> Path:
    """Where a backup waits to be put in the databases' place."""
    return directory / "restore-under-way"


def decided_path(directory: Path) -> Path:
    """What says that the backup is whole and comes in the databases' place, whoever is killed."""
    return directory / "restore-decided"


def create(directory: Path) -> None:
    """Make the directory, for its owner alone, and finish a restore that was cut off.

    Raises:
        ConfigurationError: it cannot be made or written to, or a restore is under way.
    """
    _make(directory)
    if decided_path(directory).exists():
        with locked(directory):
            pass


def finish_restore(directory: Path, step: Callable[[str], None] = lambda _: None) -> None:
    """Exchange the databases for the restored ones; the caller holds the lock.

    However often it is cut off, the next call goes on: what is staged is moved last.
    """
    staged, decided = staged_path(directory), decided_path(directory)
    if not decided.exists():
        return
    for at in databases(directory):
        if not (staged / at.name).exists() and not at.name.endswith(_BESIDE):
            continue  # it is moved already, or the backup has none
        if at.is_dir():
            shutil.rmtree(at)
        else:
            at.unlink(missing_ok=True)
        step(f"{at.name} given up")
        if (staged / at.name).exists():
            (staged / at.name).rename(at)
            step(f"{at.name} in its place")
    decided.unlink()
    shutil.rmtree(staged, ignore_errors=True)
    step("restored")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigurationError(f"data_dir {directory} cannot be made: {err.strerror}") from err
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(f"data_dir {directory} cannot be written to")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; the lock goes with the process, however it ends.

    Raises:
        ConfigurationError: another process holds it.
    """
    _make(directory)
    with (directory / "tallyman.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ConfigurationError(
                f"another tallyman (process {holder}) runs on data_dir {directory}; "
                "stop it, or give this one another directory"
            ) from err
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        finish_restore(directory)
        yield


def is_served(directory: Path) -> bool:
    """Whether a server listens on the directory's socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(socket_path(directory)))
        except OSError:
            return False
    return True


@contextmanager
def listening(directory: Path) -> Iterator[socket.socket]:
    """A socket for the owner alone; the caller holds the lock, so an old one is a leftover.

    Raises:
        ConfigurationError: the directory's path is too long for a socket.
    """
    path = socket_path(directory)
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise ConfigurationError(
            f"data_dir {directory} is too long a path: its socket's may have "
            f"{LONGEST_SOCKET_PATH} bytes"
        )
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o177)  # mode 0600 from its first moment
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
