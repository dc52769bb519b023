"""Owns a file system of a few megabytes that is filled and emptied at will, to see what a full disk does.

It does not start what writes there: see `kafka.py`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BALLAST = "ballast"


class SmallDiskUnavailable(Exception):
    """This machine lets nobody mount; the message says why."""


class SmallDisk:
    """A tmpfs in a mount namespace of its own, which is gone when the process that holds it ends."""

    def __init__(self, path: Path, holder: int) -> None:
        self.path = path
        self._holder = holder
        # What is in the namespace is seen from outside through its holder.
        self.from_outside = Path(f"/proc/{holder}/root{path}")

    @property
    def launcher(self) -> list[str]:
        """What to put before a command that is to see the disk."""
        user = [] if _is_root() else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._holder), *user, "--mount", "--"]

    def fill(self, leave_bytes: int) -> None:
        """Take all room but this."""
        free = shutil.disk_usage(self.from_outside).free
        with (self.from_outside / BALLAST).open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, free - leave_bytes)

    def make_room(self) -> None:
        """Give it back."""
        (self.from_outside / BALLAST).unlink()


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mounted at the path, for who is started with its launcher.

    Raises:
        SmallDiskUnavailable: nobody may mount here, as in most containers.
    """
    path.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs "$1" && echo mounted && exec cat'
    user = [] if _is_root() else ["--map-root-user"]
    command = ["unshare", *user, "--mount", "sh", "-c", script, "sh", str(path)]
    try:
        holder = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError as err:
        raise SmallDiskUnavailable("no `unshare` here") from err
    with holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "mounted\n":
            raise SmallDiskUnavailable(holder.stderr.read().strip() or "nothing was mounted")
        yield SmallDisk(path, holder.pid)  # its standard input is closed then, which ends it


def _is_root() -> bool:
    return os.geteuid() == 0
