"""Puts rows of new events into ClickHouse, where a view makes events of them: see `event_schema.py`."""

from collections.abc import Sequence
from typing import Final

from tallyman_kong.durable_step import durable

from tallyman.store.clickhouse import ClickHouse

INSERT_SETTINGS: Final = {
    "input_format_json_read_objects_as_strings": 1,
    "date_time_input_format": "best_effort",
    "input_format_skip_unknown_fields": 1,  # of an envelope that is stored as it came
    "input_format_parallel_parsing": 0,  # several batches are stored at a time anyway
    "optimize_on_insert": 0,  # nothing in a batch is twice
    "distributed_foreground_insert": 1,  # on a cluster, on return the shards have it
}


class Incoming:
    """The tables that new events are inserted into; rows that are inserted twice count once."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def insert_json(self, rows: Sequence[bytes]) -> None:
        """Insert rows as `event_row.py` makes them; on return they are stored.

        Raises:
            Unavailable: they may be stored.
            ClickHouseError: one of them is none that ClickHouse reads.
        """
        await self._insert("incoming", b"\n".join(rows), "JSONEachRow")

    async def insert_read(self, rows: bytes) -> None:
        """The same for rows of an `EventBlock`."""
        await self._insert("incoming_read", rows, "RowBinary")

    @durable("store.insert")
    async def _insert(self, table: str, rows: bytes, form: str) -> None:
        await self._clickhouse.insert(table, rows, form, INSERT_SETTINGS)
