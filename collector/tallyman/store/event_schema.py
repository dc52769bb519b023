"""The event tables and their migrations, in order; a migration that is out is never edited.

An event is sent to `incoming`, a Null table, and reaches `events` by a materialized view that reads
the plugin's fields out of its data once. `events` is the truth: a ReplacingMergeTree whose key goes
through (source, id), so that FINAL holds each event once. `seen` and `seen_by_id` are hints: what is
known already, so that it need not be stored again. `dropped` is what was not stored for that reason.
`rollup` is what counts of `events`, by the hour: see `rollup.py`. `changed_namespaces` has those of which
an event was changed: see `revision_sql.py`.

Every statement may run twice: processes that start together migrate together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallyman.store.clickhouse import ClickHouse
from tallyman.store.json_sql import quote, text_at


@dataclass(frozen=True)
class Layout:
    """How tables are made: on one server, or replicated on a cluster; with fsync or without."""

    cluster: str | None = None
    fsync: bool = False

    @property
    def on_cluster(self) -> str:
        return f" ON CLUSTER {quote(self.cluster)}" if self.cluster else ""

    def table(self, name: str, columns: str, engine: str, clauses: str, shard_by: str) -> list[str]:
        """A table; on a cluster a replicated one on each shard and a Distributed one before them.

        `shard_by` keeps rows of one key on one shard, where FINAL can find them.
        """
        if not self.cluster:
            return [f"CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE = {engine} {clauses}"]
        kind, arguments = engine.rstrip(")").split("(")
        replica = "'/clickhouse/tables/{uuid}/{shard}', '{replica}'"
        local = f"Replicated{kind}({', '.join(filter(None, [replica, arguments]))})"
        return [
            f"CREATE TABLE IF NOT EXISTS {name}_local{self.on_cluster} ({columns}) "
            f"ENGINE = {local} {clauses}",
            f"CREATE TABLE IF NOT EXISTS {name}{self.on_cluster} AS {name}_local ENGINE = "
            f"Distributed({quote(self.cluster)}, currentDatabase(), {name}_local, {shard_by})",
        ]

    def settings(self, **values: int) -> str:
        """The SETTINGS of a MergeTree, if there are any."""
        if self.fsync:
            values |= {"fsync_after_insert": 1, "fsync_part_directory": 1}
        text = ", ".join(f"{name} = {value}" for name, value in values.items())
        return f" SETTINGS {text}" if text else ""


EVENT_COLUMNS: Final = """
    namespace LowCardinality(String), type LowCardinality(String), subject String,
    time DateTime64(6, 'UTC'), source LowCardinality(String), id String,
    dataschema String, data String, nodeid LowCardinality(String), sequence String,
    ingested_at DateTime64(3, 'UTC'), stored_at DateTime64(3, 'UTC'),
    tokens Nullable(Int64), tokens_text String, token_type LowCardinality(String),
    model LowCardinality(String), provider LowCardinality(String),
    first_wins UInt64,
    INDEX stored_at_range stored_at TYPE minmax GRANULARITY 1"""
SEEN_COLUMNS: Final = (
    "id_hash FixedString(16), time DateTime64(6, 'UTC'), type_hash UInt32, subject_hash UInt32, "
    "data_hash UInt32"
)
DROPPED_COLUMNS: Final = """
    door LowCardinality(String), place UInt64, reason LowCardinality(String),
    nodeid LowCardinality(String), sequence String, ingested_at DateTime64(3, 'UTC'),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3)"""
ROLLUP_COLUMNS: Final = """
    namespace LowCardinality(String), type LowCardinality(String), hour UInt32,
    as_of DateTime64(3, 'UTC'),
    model Array(LowCardinality(String)), provider Array(LowCardinality(String)),
    token_type Array(LowCardinality(String)), events Array(UInt64), valued Array(UInt64),
    tokens Array(Decimal(76, 18)), first_minute Array(UInt8), last_minute Array(UInt8)"""
INCOMING_COLUMNS: Final = """
    namespace String, type String, subject String, time DateTime64(6, 'UTC'),
    source String, id String, dataschema String, data String, nodeid String,
    sequence String, ingested_at DateTime64(3, 'UTC')"""

# Texts of few values become LowCardinality in the view: read so from the rows, they cost four times as much.
READ_COLUMNS: Final = """
    namespace String, type String, subject String, time DateTime64(6, 'UTC'), source String,
    id String, data String, nodeid String, sequence String, ingested_at DateTime64(3, 'UTC'),
    door String, place UInt64, tokens Nullable(Int64), token_type String, model String,
    provider String, usage_source String, waived_tokens Int64"""


def _typed(field: str) -> str:
    """`text_at` of a top-level field, read with the others in one pass where it is a scalar."""
    found = f"d.{field}"
    scalar = f"NOT (startsWith({found}, '[') OR startsWith({found}, '{{'))"
    return f"if({scalar}, {found}, {text_at('data', [field])})"


def _typed_briefly(field: str) -> str:
    """The same as `_typed` of any data, in a third of the expressions, which each insert plans anew."""
    found = f"d.{field}"
    may_be_nested = f"(startsWith({found}, '[') OR startsWith({found}, '{{'))"
    return f"if({may_be_nested} AND JSONType(data, '{field}') != 'String', '', {found})"


def _stored(
    more: str = "",
    source: str = "incoming",
    *,
    fields: str = "",
    columns: str = "",
    typed: Callable[[str], str] = _typed,
) -> str:
    """What the view makes of a row of `source`; `more` are columns that are passed on.

    `fields` are read in the same pass as the plugin's others, and `columns` made of them.
    """
    tokens = typed("tokens")
    is_integer = f"match({tokens}, '^-?[0-9]{{1,18}}$')"
    return f"""
        WITH JSONExtract(data,
            'Tuple(tokens String, type String, model String, provider String{fields})') AS d
        SELECT namespace, type, subject, time, source, id, dataschema, data, nodeid, sequence,
            ingested_at, now64(3) AS stored_at,
            if({is_integer}, toInt64OrNull({tokens}), NULL) AS tokens,
            if({is_integer}, '', {tokens}) AS tokens_text,
            {typed("type")} AS token_type, {typed("model")} AS model,
            {typed("provider")} AS provider,{columns}
            18446744073709551615 - toUnixTimestamp64Micro(now64(6)) AS first_wins{more}
        FROM {source}
        """  # noqa: S608 – a migration: names and paths are ours


def _first(layout: Layout) -> list[str]:
    by_id = "cityHash64(id_hash)"
    return [
        *layout.table(
            "events",
            EVENT_COLUMNS,
            "ReplacingMergeTree(first_wins)",
            "PARTITION BY toYYYYMM(time) ORDER BY (namespace, type, subject, time, source, id)"
            + layout.settings(),
            "cityHash64(namespace, source, id)",
        ),
        *layout.table(
            "seen",
            f"minute DateTime('UTC'), {SEEN_COLUMNS}",
            "ReplacingMergeTree()",
            "PARTITION BY toYYYYMM(minute) ORDER BY (minute, id_hash)",
            by_id,
        ),
        *layout.table(
            "seen_by_id",
            SEEN_COLUMNS,
            "ReplacingMergeTree()",
            "ORDER BY id_hash SETTINGS index_granularity = 256",
            by_id,
        ),
        f"CREATE TABLE IF NOT EXISTS incoming{layout.on_cluster} ({INCOMING_COLUMNS}) "
        "ENGINE = Null",
        "CREATE MATERIALIZED VIEW IF NOT EXISTS "
        f"incoming_to_events{layout.on_cluster} TO events AS{_stored()}",
    ]


def _second(layout: Layout) -> list[str]:
    """What an invoice says of its tokens, read once: how they were counted, and what is waived.

    The view does not name the columns, so they get their defaults as an event is stored; of events
    that are there already they are read from the data until their parts are merged.
    """
    columns = (
        f"usage_source LowCardinality(String) DEFAULT {text_at('data', ['usage_source'])}",
        "waived_tokens Int64 DEFAULT JSONExtractInt(data, 'waived_tokens')",
    )
    tables = ("events_local", "events") if layout.cluster else ("events",)
    return [
        f"ALTER TABLE {table}{layout.on_cluster} ADD COLUMN IF NOT EXISTS {column}"
        for table in tables
        for column in columns
    ]


def _third(layout: Layout) -> list[str]:
    """By which door an event came in and as the how-manieth: what is missing leaves a hole.

    `dropped` has the numbers of those that were not stored, as they were known or in conflict.
    """
    tables = ("events_local", "events") if layout.cluster else ("events",)
    columns = ("door LowCardinality(String)", "place UInt64")
    return [
        *(
            f"ALTER TABLE {table}{layout.on_cluster} ADD COLUMN IF NOT EXISTS {column}"
            for table in (*tables, "incoming")
            for column in columns
        ),
        f"ALTER TABLE incoming_to_events{layout.on_cluster} MODIFY QUERY"
        + _stored(", door, place"),
        *layout.table(
            "dropped",
            DROPPED_COLUMNS,
            "ReplacingMergeTree()",
            "PARTITION BY toYYYYMM(ingested_at) ORDER BY (door, place)",
            "cityHash64(door, place)",
        ),
        *layout.table(
            "reconciliation",
            "at DateTime64(3, 'UTC'), report String",
            "MergeTree()",
            "ORDER BY at TTL toDateTime(at) + INTERVAL 400 DAY",
            "toUnixTimestamp64Milli(at)",
        ),
    ]


def _fourth(layout: Layout) -> list[str]:
    """Changes of events are rows of their own: of the same event, with a higher revision.

    `change` says what a row is: nothing for an event as it came, amended, voided, or moved where it
    was amended to another subject. What counts is `revision_sql.py`'s.
    """
    table = "events_local" if layout.cluster else "events"
    columns = (
        "ADD COLUMN IF NOT EXISTS revision UInt32, "
        "ADD COLUMN IF NOT EXISTS change LowCardinality(String)"
    )
    key = "(namespace, type, subject, time, source, id, revision)"
    changed = [
        f"ALTER TABLE {table}{layout.on_cluster} {columns}, "
        f"ADD INDEX IF NOT EXISTS changed revision TYPE minmax GRANULARITY 1, MODIFY ORDER BY {key}"
    ]
    if layout.cluster:
        changed.append(f"ALTER TABLE events{layout.on_cluster} {columns}")
    return [
        *changed,
        f"CREATE TABLE IF NOT EXISTS incoming_changes{layout.on_cluster} ({INCOMING_COLUMNS}, "
        "revision UInt32, change String) ENGINE = Null",
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS changes_to_events{layout.on_cluster} TO events AS"
        + _stored(", revision, change", "incoming_changes"),
    ]


def _counted(more: str, source: str, typed: Callable[[str], str] = _typed) -> str:
    """`_stored`, with what an invoice says of its tokens read in the same pass as the rest."""
    waived = "d.waived_tokens"
    columns = f"""
            {typed("usage_source")} AS usage_source,
            multiIf({waived} = '', 0, match({waived}, '^-?[0-9]{{1,18}}$'), toInt64OrZero({waived}),
                JSONExtractInt(data, 'waived_tokens')) AS waived_tokens,"""
    fields = ", usage_source String, waived_tokens String"
    return _stored(more, source, fields=fields, columns=columns, typed=typed)


def _fifth(layout: Layout, typed: Callable[[str], str] = _typed) -> list[str]:
    """The columns of the second migration in one pass with the others, a tenth of an insert's time."""
    return [
        f"ALTER TABLE incoming_to_events{layout.on_cluster} MODIFY QUERY"
        + _counted(", door, place", "incoming", typed),
        f"ALTER TABLE changes_to_events{layout.on_cluster} MODIFY QUERY"
        + _counted(", revision, change", "incoming_changes", typed),
    ]


def _sixth(layout: Layout) -> list[str]:
    """What counts of each hour, a row an hour, so that the newest one takes the place of the others.

    An hour is its number since 1970. Each place of the arrays is the events of one model, provider
    and type.
    """
    return layout.table(
        "rollup",
        ROLLUP_COLUMNS,
        "ReplacingMergeTree(as_of)",
        "ORDER BY (namespace, type, hour)" + layout.settings(),
        "cityHash64(namespace, type, hour)",
    )


def _seventh(layout: Layout) -> list[str]:
    """The views of the fifth, sooner planned: a tenth of the time of an insert of a few events."""
    return _fifth(layout, _typed_briefly)


def _eighth(layout: Layout) -> list[str]:
    """A way in for rows whose data is read already: see `event_block.py`."""
    return [
        f"CREATE TABLE IF NOT EXISTS incoming_read{layout.on_cluster} ({READ_COLUMNS}) ENGINE = Null",
        f"""CREATE MATERIALIZED VIEW IF NOT EXISTS read_to_events{layout.on_cluster} TO events AS
        SELECT *, now64(3) AS stored_at,
            18446744073709551615 - toUnixTimestamp64Micro(now64(6)) AS first_wins
        FROM incoming_read
        """,  # noqa: S608 – a migration: names are ours
    ]


def _ninth(layout: Layout) -> list[str]:
    """A part of up to 64 MiB of events, which a batch is, is one file, not three a column.

    A query of one subject opens every part that is not merged yet, and reads little of each.
    """
    table = "events_local" if layout.cluster else "events"
    return [
        f"ALTER TABLE {table}{layout.on_cluster} MODIFY SETTING min_bytes_for_wide_part = 67108864"
    ]


def _tenth(layout: Layout) -> list[str]:
    """In which namespaces events were changed: a query of another one need not look for changes."""
    return [
        *layout.table(
            "changed_namespaces",
            "namespace String",
            "ReplacingMergeTree()",
            "ORDER BY namespace" + layout.settings(),
            "cityHash64(namespace)",
        ),
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS changes_to_namespaces{layout.on_cluster} "  # noqa: S608 – a migration: names are ours
        "TO changed_namespaces AS SELECT DISTINCT namespace FROM incoming_changes",
    ]


MIGRATIONS: Final[tuple[Callable[[Layout], list[str]], ...]] = (
    _first,
    _second,
    _third,
    _fourth,
    _fifth,
    _sixth,
    _seventh,
    _eighth,
    _ninth,
    _tenth,
)


async def migrate(clickhouse: ClickHouse, layout: Layout) -> int:
    """Bring the tables to the newest version, one migration at a time; returns the version."""
    for statement in layout.table(
        "schema_version", "version UInt32", "MergeTree()", "ORDER BY version", "version"
    ):
        await clickhouse.command(statement)
    rows = await clickhouse.rows("SELECT max(version) FROM schema_version")
    version = int(rows[0][0])
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements(layout):
            await clickhouse.command(statement)
        await clickhouse.command(
            "INSERT INTO schema_version SELECT {number:UInt32}", {"number": number}
        )
    return len(MIGRATIONS)
