"""The memory of what is stored: which events are known, and what they were.

It is a hint, written only after the events themselves: whatever is killed, an event that is not
remembered is stored again, and FINAL removes it. `events.py` decides what to do with an event.
"""

import asyncio
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec
from msgspec.structs import astuple
from tallyman_kong.durable_step import durable

from tallyman.domain.event import CloudEvent
from tallyman.domain.period import microseconds
from tallyman.store.clickhouse import ANY_MONTHS, ClickHouse
from tallyman.store.json_sql import quote
from tallyman.store.revision_sql import AS_IT_CAME

MINUTE_US: Final = 60_000_000
LAST_MINUTE: Final = (
    (2**32 - 1) // 60 * 60
)  # of a DateTime, in 2106: what is later is kept there too
_BY_MINUTE: Final = struct.Struct("<I16sqIII")  # RowBinary of `seen`
_BY_ID: Final = struct.Struct("<16sqIII")  # and of `seen_by_id`
MOST_LITERALS: Final = 500
FORGOTTEN_AT_ONCE: Final = 5_000  # a cluster hands a deletion on in 1 MiB, and reads 256 KiB of it
_REMEMBER_SETTINGS: Final = {
    "optimize_on_insert": 0,  # nothing in a batch is twice
    "distributed_foreground_insert": 1,  # on a cluster, the next lookup finds it
}
# What can have been under way at a crash: a batch for each connection, of this many events in all.
_MEND: Final = {"window_ms": 3_600_000, "most": 500_000}

# The same sums in SQL, for `mend`.
_ID_HASH: Final = (
    "substring(SHA256(concat(toString(length(namespace)), ':', toString(length(source)), ':', "
    "namespace, source, id)), 1, 16)"
)
MINUTE: Final = f"toDateTime(least(intDiv(toUnixTimestamp64Micro(time), {MINUTE_US}) * 60, {LAST_MINUTE}), 'UTC')"
SUMS: Final = (
    f"toFixedString({_ID_HASH}, 16) AS id_hash, time, CRC32(type) AS type_hash, "
    "CRC32(subject) AS subject_hash, "
    "CRC32(concat(dataschema, '\\0', data)) AS data_hash"
)


class Trace(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of an event; `time_us` counts from 1970."""

    id_hash: bytes
    time_us: int
    type_hash: int
    subject_hash: int
    data_hash: int

    @property
    def minute(self) -> int:
        return minute_of(self.time_us)


def minute_of(time_us: int) -> int:
    """The minute that an event is remembered under, in seconds from 1970."""
    return min(time_us // MINUTE_US * 60, LAST_MINUTE)


def id_hash(namespace: str, source: str, id_: str) -> bytes:
    """The identity of an event, in 16 bytes."""
    return sha256(_whose_and_where(namespace, source) + id_.encode()).digest()[:16]


def trace(namespace: str, event: CloudEvent, time: datetime, data: bytes | msgspec.Raw) -> Trace:
    """What to remember of an event that counts at `time`."""
    return Trace(
        id_hash(namespace, event.source, event.id),
        microseconds(time),
        _sum(event.type),
        _sum(event.subject),
        zlib.crc32(data, _sum_of_schema(event.dataschema)),
    )


@lru_cache(maxsize=1 << 12)
def _whose_and_where(namespace: str, source: str) -> bytes:
    whose, where = namespace.encode(), source.encode()
    return b"%d:%d:%b%b" % (len(whose), len(where), whose, where)


@lru_cache(maxsize=1 << 16)
def _sum(text: str) -> int:
    return zlib.crc32(text.encode())


@lru_cache(maxsize=1 << 12)
def _sum_of_schema(dataschema: str | None) -> int:
    return zlib.crc32(f"{dataschema or ''}\0".encode())


class Seen:
    """The ids of every namespace, looked up by the minute of their event, or by themselves alone."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def by_minute(
        self, hashes: Sequence[bytes], times_us: Sequence[int]
    ) -> dict[bytes, Trace]:
        """What is known of these ids at these times; quick, since a batch is of few minutes."""
        if not hashes:
            return {}
        whole = {time_us // MINUTE_US * MINUTE_US for time_us in times_us}
        minutes = ", ".join(map(str, sorted(set(map(minute_of, whole)))))
        return await self._find("seen", f"minute IN ({minutes}) AND ", hashes)

    async def by_id(self, hashes: Sequence[bytes]) -> dict[bytes, Trace]:
        """What is known of these ids whatever their time, of events not sent by the plugin."""
        return await self._find("seen_by_id", "", hashes) if hashes else {}

    async def remember(self, traces: Iterable[Trace], by_id: Iterable[Trace]) -> None:
        """Remember the traces by minute, and some by id alone too."""
        tables = {
            "seen": b"".join([_BY_MINUTE.pack(one.minute, *astuple(one)) for one in traces]),
            "seen_by_id": b"".join([_BY_ID.pack(*astuple(one)) for one in by_id]),
        }
        await self._insert(tables)

    async def remember_rows(self, rows: bytes) -> None:
        """Remember traces by minute, which are rows of `seen` in RowBinary already."""
        await self._insert({"seen": rows})

    @durable("store.remember")
    async def _insert(self, tables: Mapping[str, bytes]) -> None:
        inserts = [
            self._clickhouse.insert(table, rows, "RowBinary", _REMEMBER_SETTINGS)
            for table, rows in tables.items()
            if rows
        ]
        # Both have ended when this does: what failed is mended before the next batch.
        for failed in await asyncio.gather(*inserts, return_exceptions=True):
            if failed is not None:
                raise failed

    @durable("store.mend")
    async def mend(self) -> None:
        """Remember what was stored last, in case its memory was not written before a crash."""
        stored = (
            "FROM (SELECT * FROM events WHERE stored_at >= "  # noqa: S608 – the condition is ours
            "least((SELECT max(stored_at) FROM events), now64(3)) "  # it may have been set back
            f"- toIntervalMillisecond({{window_ms:UInt32}}) AND {AS_IT_CAME} "
            "ORDER BY stored_at DESC LIMIT {most:UInt32})"
        )
        await self._clickhouse.command(
            f"INSERT INTO seen SELECT {MINUTE}, {SUMS} {stored}", _MEND, ANY_MONTHS
        )
        # Which of them came without a time is not stored, so all are remembered by id alone too.
        await self._clickhouse.command(f"INSERT INTO seen_by_id SELECT {SUMS} {stored}", _MEND)

    async def remembered_only(self, from_: datetime, to: datetime) -> list[bytes]:
        """The ids remembered for [from, to) whose events are not stored: they would be dropped.

        No crash leads to that, since events are stored first: rows must have been taken away.
        """
        moments = {"from": int(from_.timestamp()), "to": int(to.timestamp())}
        remembered = (
            "minute >= toDateTime({from:Int64}, 'UTC') AND minute < toDateTime({to:Int64}, 'UTC')"
        )
        stored = (
            f"SELECT toFixedString({_ID_HASH}, 16) FROM events WHERE "  # noqa: S608 – ours
            "time >= toDateTime64({from:Int64}, 6, 'UTC') AND time < toDateTime64({to:Int64}, 6, 'UTC')"
        )
        # What is remembered between the two readings is stored before: the second one sees it.
        first = await self._clickhouse.rows(
            f"SELECT DISTINCT id_hash FROM seen WHERE {remembered} AND id_hash GLOBAL NOT IN ({stored})",  # noqa: S608 – ours
            moments,
        )
        if not first:
            return []
        second = {row[0] for row in await self._clickhouse.rows(stored, moments)}
        return [row[0] for row in first if row[0] not in second]

    async def forget(self, hashes: Sequence[bytes], from_: datetime, to: datetime) -> None:
        """Forget ids of [from, to), so that their events are stored when they are sent again.

        By minute last: what is killed in between is found by `remembered_only` again.
        """
        bounds = f"minute >= toDateTime({int(from_.timestamp())}, 'UTC') AND minute < toDateTime({int(to.timestamp())}, 'UTC')"
        for begin in range(0, len(hashes), FORGOTTEN_AT_ONCE):
            some = hashes[begin : begin + FORGOTTEN_AT_ONCE]
            which = f"hex(id_hash) IN ({', '.join(repr(one.hex().upper()) for one in some)})"
            await self._forget_by_id(which)
            await self._forget_by_minute(f"{bounds} AND {which}")

    @durable("reconcile.forget_by_id")
    async def _forget_by_id(self, where: str) -> None:
        await self._delete("seen_by_id", where)

    @durable("reconcile.forget_by_minute")
    async def _forget_by_minute(self, where: str) -> None:
        await self._delete("seen", where)

    async def _delete(self, table: str, where: str) -> None:
        local = f"{table}_local" if self._clickhouse.cluster else table
        on = f" ON CLUSTER {quote(self._clickhouse.cluster)}" if self._clickhouse.cluster else ""
        await self._clickhouse.command(f"DELETE FROM {local}{on} WHERE {where}")  # noqa: S608 – tables of ours, numbers and hexadecimal

    async def _find(self, table: str, where: str, hashes: Sequence[bytes]) -> dict[bytes, Trace]:
        found = await self._clickhouse.raw(
            f"SELECT id_hash, toUnixTimestamp64Micro(time), type_hash, subject_hash, data_hash "  # noqa: S608 – a table of ours, numbers and hexadecimal
            f"FROM {table} WHERE {where}id_hash IN ({_listed(hashes)})",
            "RowBinary",
        )
        return {row[0]: Trace(*row) for row in _BY_ID.iter_unpack(found)}


def _listed(hashes: Sequence[bytes]) -> str:
    """A list for IN: few are planned sooner as literals, many are read sooner as a table."""
    if len(hashes) <= MOST_LITERALS:
        return ", ".join(f"x'{one.hex()}'" for one in hashes)
    wanted = b"".join(hashes).hex()
    return f"SELECT id_hash FROM format(RowBinary, 'id_hash FixedString(16)', unhex('{wanted}'))"  # noqa: S608 – hexadecimal
