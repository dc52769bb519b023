"""The directory of an embedded collector: who may use it, and the socket that its commands ask.

What is in its databases is the stores' business.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tallyman.errors import ConfigurationError

LONGEST_SOCKET_PATH: Final = 107  # bytes; sun_path of Linux, less its NUL


def socket_path(directory: Path) -> Path:
    """Where a running server listens for its own commands."""
    return directory / "tallyman.sock"


def database_path(directory: Path) -> Path:
    """SQLite's file."""
    return directory / "tallyman.sqlite3"


def events_path(directory: Path) -> Path:
    """ChDB's directory."""
    return directory / "chdb"


def create(directory: Path) -> None:
    """Make the directory, for its owner alone.

    Raises:
        ConfigurationError: it cannot be made or written to.
    """
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
    create(directory)
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
