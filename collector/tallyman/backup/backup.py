"""Takes a backup: holds a moment of the data directory still, and copies it away.

What is killed leaves no backup, and the directory as it was; the next one clears up.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tallyman import data_directory
from tallyman.backup import snapshot
from tallyman.backup.archive import refuse_taken, write_backup
from tallyman.backup.manifest import Manifest
from tallyman.backup.snapshot import Step
from tallyman.errors import ConfigurationError, NotFound

FOLDER: Final = "backup-under-way"
LOCK: Final = "backup.lock"


def back_up(directory: Path, target: Path, step: Step = lambda _: None) -> Manifest:
    """Write a backup of the directory, which a server may be using, to a new folder or tar file.

    `step` is called after each step, by its name.

    Raises:
        NotFound: nothing is stored in the directory.
        InvalidInput: something is at the target.
        ConfigurationError: another backup is under way, or the target is in the directory.
        Unavailable: another process writes for too long.
    """
    if directory.exists():
        data_directory.create(directory)  # finishes a restore that was cut off
    if not data_directory.database_path(directory).exists():
        raise NotFound(f"nothing is stored in {directory} yet")
    if target.resolve().is_relative_to(directory.resolve()):
        raise ConfigurationError(f"a backup goes elsewhere than into data_dir {directory}")
    refuse_taken(target)
    with _alone(directory):
        folder = directory / FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        try:
            revision = snapshot.take(directory, folder, step)
            manifest = write_backup(folder, target, revision, step)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        step("folder removed")
    return manifest


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise ConfigurationError(f"another backup of {directory} is under way") from err
        yield
