"""How far each node's numbers have come, in two small files beside the spool, which they outlive.

It gives no number: `spool.py` does, and asks here so that none is given twice where the spool file, or
the end of its journal, is gone.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallyman_kong.durable_step import durable
from tallyman_kong.spool_file import replace_file

log = logging.getLogger("tallyman_kong.spool")

RESERVED_BLOCK = 10_000
MOST_BYTES = 1_000_000


class SequenceMark:
    """The numbers that were reserved (`.sequence`) and those that were given (`.given`), per node.

    They are reserved in blocks, on disk before they are given: one write and fsync per block, not per
    event. What was given is written behind each commit without an fsync, so it is exact after a kill,
    and may be old after a power failure, which takes nothing of what was committed.
    """

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(spool.name + ".sequence")
        self._given_path = spool.with_name(spool.name + ".given")
        self._reserved: dict[str, int] = {}
        self._given: dict[str, int] = {}

    def reserved(self, node: str) -> int:
        """The highest sequence of the node that may have been given, 0 if none."""
        return max(self._read().get(node, 0), self._reserved.get(node, 0))

    def first_node(self) -> str | None:
        return next(iter(self._read()), None)

    @durable("spool.reserve")
    def reserve(self, node: str, sequence: int) -> None:
        """Make sure, before it is given, that `sequence` is known to be taken.

        Call it inside the append's transaction: that is what keeps two processes apart.
        """
        if sequence <= self._reserved.get(node, 0):
            return
        marks = self._read()
        if sequence > marks.get(node, 0):
            marks[node] = sequence + RESERVED_BLOCK
            replace_file(self._path, json.dumps(marks))
        self._reserved[node] = marks[node]

    def _read(self) -> dict[str, int]:
        try:
            return _marks(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            log.error("%s cannot be read; the spool file alone keeps the sequence", self._path)
            return {}

    def given(self, node: str) -> int:
        """The node's last number that is known to have been given, 0 if none; the file is read once."""
        if node not in self._given:
            self._given[node] = self.all_given().get(node, 0)
        return self._given[node]

    def all_given(self) -> dict[str, int]:
        """The last number of each node that is known to have been given, by whatever process."""
        try:
            with _locked(self._given_path, os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
                return _marks(os.read(descriptor, MOST_BYTES))
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as err:
            log.error("%s cannot be read: %s", self._given_path, err)
            return {}

    def gave(self, node: str, sequence: int) -> None:
        """Note that the numbers up to this one are given: call it when they are committed.

        A failure is only logged: what was committed must not be appended again.
        """
        self._given[node] = sequence
        try:
            with _locked(self._given_path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as descriptor:
                found = os.read(descriptor, MOST_BYTES)
                marks = _marks_or_none(found)
                if sequence <= marks.get(node, 0):
                    return  # another server was quicker
                marks[node] = sequence
                text = json.dumps(marks).encode()
                os.pwrite(descriptor, text, 0)
                if len(text) < len(found):
                    os.ftruncate(descriptor, len(text))
        except OSError as err:
            log.error("%s cannot be written: %s", self._given_path, err)


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, lock)
        yield descriptor
    finally:
        os.close(descriptor)


def _marks(text: bytes) -> dict[str, int]:
    """Each node's number.

    Raises:
        ValueError: the text is no such thing.
    """
    try:
        return {str(node): int(mark) for node, mark in json.loads(text).items()}
    except (AttributeError, TypeError) as err:
        raise ValueError("not a number for each node") from err


def _marks_or_none(text: bytes) -> dict[str, int]:
    try:
        return _marks(text)
    except ValueError:
        return {}
