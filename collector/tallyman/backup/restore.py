"""Puts a backup in the place of a data directory: whole, or not at all.

The backup is copied beside what is there and checked, and only then exchanged with it. The exchange is
several renames: a file says that it is decided, and `data_directory.py` finishes it where it was cut off.
"""

import shutil
from pathlib import Path

from tallyman import data_directory
from tallyman.backup.archive import opened_backup, sync_folder, sync_tree
from tallyman.backup.manifest import Manifest
from tallyman.backup.snapshot import Step
from tallyman.errors import ConfigurationError


def restore(
    directory: Path, source: Path, *, replace: bool = False, step: Step = lambda _: None
) -> Manifest:
    """Fill the directory from a backup; with `replace` what is there is given up for it.

    `step` is called after each step, by its name.

    Raises:
        NotFound: there is no backup.
        InvalidInput: the backup is not whole, is damaged, or of a form that is not known.
        ConfigurationError: a server uses the directory, or something is stored in it.
    """
    with data_directory.locked(directory):
        databases = [at for at in data_directory.databases(directory) if at.exists()]
        if databases and not replace:
            raise ConfigurationError(
                f"data_dir {directory} is not empty; --replace gives up what is stored in it"
            )
        staged = data_directory.staged_path(directory)
        shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
        staged.mkdir(mode=0o700)
        step("folder made")
        try:
            manifest = _copy(source, staged, step)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        data_directory.write_ahead_path(staged).touch(mode=0o600)  # an older backup has none
        sync_tree(staged)
        step("all on the disk")
        data_directory.decided_path(directory).touch()
        sync_folder(directory)
        step("decided")
        data_directory.finish_restore(directory, step)
    return manifest


def _copy(source: Path, staged: Path, step: Step) -> Manifest:
    with opened_backup(source) as (manifest, reader):
        step("manifest checked")
        for path in sorted(manifest.folders):
            (staged / path).mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, expected in sorted(manifest.files.items()):
            (staged / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            reader.copy(path, expected, staged / path)
        step("files copied and checked")
        for path, target in manifest.links.items():
            (staged / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (staged / path).symlink_to(target)
    return manifest
