"""Owns the reading of Kafka's record batches where the name of a header is not UTF-8.

It does not decide what becomes of such a message: see `message.py`.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


def read_every_header() -> None:
    """From now on no consumer of this process fails at the name of a header.

    Kafka takes any bytes as a name, and aiokafka cannot read on behind one that is not UTF-8.
    """
    fetcher.MemoryRecords = _Batches


class _Batches(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka has no types
    def next_batch(self) -> Any:
        slice_of_batch = self._next_slice
        batch = super().next_batch()
        is_with_headers = batch is not None and hasattr(batch, "is_control_batch")
        if not is_with_headers or batch.is_control_batch:
            return batch
        return _Batch(batch, slice_of_batch)


class _Batch:
    """A batch that is read by compiled code up to a name that it cannot read."""

    def __init__(self, batch: Any, slice_of_batch: memoryview) -> None:
        self._batch = batch
        self._slice = slice_of_batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError:
            yield from _LenientBatch(self._slice)  # aiokafka passes over those that it has


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def _read_msg(self) -> Any:
        if not isinstance(self._buffer, _LenientBytes):
            self._buffer = _LenientBytes(self._buffer)
        return super()._read_msg()


class _LenientBytes(bytearray):
    """Bytes that are no UTF-8 become surrogates, which no other name has."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _LenientBytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return super().decode(encoding, errors)
