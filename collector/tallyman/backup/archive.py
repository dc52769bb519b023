"""Where a backup is kept: a folder or a tar file, which is there whole or not at all.

What is in it is `snapshot.py`'s, where it goes back to `restore.py`'s.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Protocol

from tallyman import __version__
from tallyman.backup.manifest import FORMAT, NAME, SUM, BackupFile, Manifest, read_manifest
from tallyman.backup.snapshot import Step
from tallyman.errors import InvalidInput, NotFound

CHUNK: Final = 1 << 20
TAR: Final = ".tar"
PARTIAL: Final = ".partial"


class _Sink(Protocol):
    """Takes the files of a backup, one after the other."""

    def add(self, path: str, file: IO[bytes], size: int) -> None:
        """Keep one."""


class _Folder:
    def __init__(self, at: Path) -> None:
        self._at = at

    def add(self, path: str, file: IO[bytes], size: int) -> None:
        target = self._at / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("xb") as out:
            shutil.copyfileobj(file, out, CHUNK)
            _to_disk(out)


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def add(self, path: str, file: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = size, 0o600
        self._archive.addfile(entry, file)


class _Hashing(io.RawIOBase):
    """What is read from a file, hashed on its way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        found = self._file.read(size)
        self.hash.update(found)
        self.size += len(found)
        return found


def is_tar(path: Path) -> bool:
    """Whether a backup of this name is one file."""
    return path.name.endswith(TAR)


def refuse_taken(target: Path) -> None:
    """Raises InvalidInput where something is there already that would be overwritten."""
    if target.is_dir() and not is_tar(target) and not any(target.iterdir()):
        return
    if target.exists():
        raise InvalidInput(f"{target} is there already; a backup overwrites nothing")


def write_backup(folder: Path, target: Path, revision: str, step: Step) -> Manifest:
    """Copy what is held in a folder to the target, with a manifest; on return it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}{PARTIAL}")
    _remove(partial)
    with _sink(target, partial) as sink:
        step("target begun")
        manifest = _copied(folder, sink, revision, step)
        text = manifest.encode()
        sink.add(NAME, io.BytesIO(text), len(text))
        checksum = f"{hashlib.sha256(text).hexdigest()}\n".encode()
        sink.add(SUM, io.BytesIO(checksum), len(checksum))
        step("manifest written")
    sync_tree(partial)
    step("all on the disk")
    if target.is_dir():
        target.rmdir()  # empty
    partial.rename(target)
    sync_folder(target.parent)
    step("target in its place")
    return manifest


@contextmanager
def opened_backup(source: Path) -> Iterator[tuple[Manifest, "_Reader"]]:
    """A backup's manifest, checked, and the way to its files.

    Raises:
        NotFound: there is none.
        InvalidInput: it is not whole, or of a form that is not known.
    """
    if not source.exists():
        raise NotFound(f"there is no backup at {source}")
    if source.is_dir():
        reader = _Reader(folder=source)
        yield _manifest(reader), reader
        return
    try:
        with tarfile.open(source) as archive:
            reader = _Reader(archive=archive)
            yield _manifest(reader), reader
    except (tarfile.TarError, EOFError) as err:
        raise InvalidInput(f"{source} is no whole backup: {err}") from err


class _Reader:
    def __init__(self, folder: Path | None = None, archive: tarfile.TarFile | None = None) -> None:
        self._folder = folder
        self._archive = archive

    def open(self, path: str) -> IO[bytes]:
        """A file of the backup.

        Raises:
            InvalidInput: it is not there.
        """
        found: IO[bytes] | None = None
        try:
            if self._folder is not None:
                found = (self._folder / path).open("rb")
            elif self._archive is not None:
                found = self._archive.extractfile(path)
        except (KeyError, FileNotFoundError) as err:
            raise InvalidInput(f"the backup is not whole: {path} is missing") from err
        if found is None:
            raise InvalidInput(f"the backup is not whole: {path} is no file")
        return found

    def copy(self, path: str, expected: BackupFile, target: Path) -> None:
        """Put a file of the backup in its place.

        Raises:
            InvalidInput: it is not what was written.
        """
        with self.open(path) as file, target.open("xb") as out:
            hashed = _Hashing(file)
            shutil.copyfileobj(hashed, out, CHUNK)
            _to_disk(out)
        if (hashed.size, hashed.hash.hexdigest()) != (expected.size, expected.sha256):
            raise InvalidInput(f"the backup is damaged: {path} is not what was written")


def sync_tree(at: Path) -> None:
    """Bring the names in a folder to the disk; the files themselves are there."""
    if at.is_dir():
        for here, _, _ in os.walk(at):
            sync_folder(Path(here))


def sync_folder(at: Path) -> None:
    """Bring the names in one folder to the disk."""
    number = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _sink(target: Path, partial: Path) -> Iterator[_Sink]:
    if not is_tar(target):
        partial.mkdir(mode=0o700)
        yield _Folder(partial)
        return
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            yield _Tar(archive)
        _to_disk(out)


def _copied(folder: Path, sink: _Sink, revision: str, step: Step) -> Manifest:
    files, links, folders = {}, {}, []
    for at, below, names in os.walk(folder):
        here = Path(at).relative_to(folder)
        for name in sorted(below):
            path = str(here / name)
            if (folder / path).is_symlink():
                links[path] = os.readlink(folder / path)
            else:
                folders.append(path)
        below[:] = sorted(name for name in below if not (Path(at) / name).is_symlink())
        for name in sorted(names):
            path = str(here / name)
            with (folder / path).open("rb") as file:
                hashed = _Hashing(file)
                sink.add(path, hashed, (folder / path).stat().st_size)  # type: ignore[arg-type]  # it only reads
            files[path] = BackupFile(hashed.size, hashed.hash.hexdigest())
            if len(files) == 1:
                step("first file copied")
    step("last file copied")
    made_at = datetime.now(UTC)
    return Manifest(FORMAT, __version__, revision, made_at, files, links, sorted(folders))


def _manifest(reader: _Reader) -> Manifest:
    with reader.open(NAME) as text, reader.open(SUM) as checksum:
        return read_manifest(text.read(), checksum.read())


def _to_disk(out: IO[bytes]) -> None:
    out.flush()
    os.fsync(out.fileno())


def _remove(at: Path) -> None:
    if at.is_dir():
        shutil.rmtree(at)
    else:
        at.unlink(missing_ok=True)
