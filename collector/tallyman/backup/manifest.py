"""What a backup says of itself: each file with its size and hash, and what made it.

How it is written and read is `archive.py`'s.
"""

import hashlib
from datetime import datetime
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Final

import msgspec

from tallyman.errors import InvalidInput

FORMAT: Final = 1
NAME: Final = "MANIFEST.json"
SUM: Final = "MANIFEST.sha256"


class BackupFile(msgspec.Struct, frozen=True):
    """A file of the backup, by its path from the data directory."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`links` are symbolic ones, each with what it points to; `folders` may be empty.

    `revision` is the version of the relational tables, as `store/migrations` numbers them.
    """

    format: int
    version: str
    revision: str
    made_at: datetime
    files: dict[str, BackupFile]
    links: dict[str, str]
    folders: list[str]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(one.size for one in self.files.values())

    def encode(self) -> bytes:
        """As it is kept."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def read_manifest(text: bytes, checksum: bytes) -> Manifest:
    """The manifest, checked: it is as it was written, of a form that is known, and stays inside.

    Raises:
        InvalidInput: it is not.
    """
    if hashlib.sha256(text).hexdigest() != checksum.decode(errors="replace").strip():
        raise InvalidInput(f"{NAME} is not as it was written: its checksum is another")
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as err:
        raise InvalidInput(f"{NAME} is no manifest of a backup: {err}") from err
    if manifest.format != FORMAT:
        raise InvalidInput(
            f"the backup has form {manifest.format}, made by Tallyman {manifest.version}; "
            f"this version reads form {FORMAT}"
        )
    if not any(name.startswith(f"{manifest.revision}_") for name in _migrations()):
        raise InvalidInput(
            f"the backup was made by a newer version, Tallyman {manifest.version}: its tables have "
            f"version {manifest.revision}, which this one does not know"
        )
    for path in (*manifest.files, *manifest.links, *manifest.folders):
        _refuse_outside(PurePosixPath(path))
    for path, target in manifest.links.items():
        depth = len(PurePosixPath(path).parent.parts)
        ups = PurePosixPath(target).parts.count("..")
        if PurePosixPath(target).is_absolute() or ups > depth:
            raise InvalidInput(f"the backup has a link that leads out of it: {path}")
    return manifest


def _migrations() -> list[str]:
    return [one.name for one in files("tallyman.store.migrations").joinpath("versions").iterdir()]


def _refuse_outside(path: PurePosixPath) -> None:
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InvalidInput(f"the backup has a path that leads out of it: {path}")
