"""The event tables and their migrations, in order; a migration that is out is never edited.

An event is sent to `incoming`, a Null table, and reaches `events` by a materialized view that reads
the plugin's fields out of its data once. `events` is the truth: a ReplacingMergeTree whose key goes
through (source, id), so that FINAL holds each event once.
"""

from typing import Final

from tallyman.store.clickhouse import ClickHouse

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE events (
            namespace LowCardinality(String), type LowCardinality(String), subject String,
            time DateTime64(6, 'UTC'), source LowCardinality(String), id String,
            dataschema String, data String, nodeid LowCardinality(String), sequence String,
            ingested_at DateTime64(3, 'UTC'), stored_at DateTime64(3, 'UTC'),
            tokens Nullable(Int64), token_type LowCardinality(String),
            model LowCardinality(String), provider LowCardinality(String),
            first_wins UInt64
        )
        ENGINE = ReplacingMergeTree(first_wins)
        PARTITION BY toYYYYMM(time)
        ORDER BY (namespace, type, subject, time, source, id)
        """,
        """
        CREATE TABLE incoming (
            namespace String, type String, subject String, time DateTime64(6, 'UTC'),
            source String, id String, dataschema String, data String, nodeid String,
            sequence String, ingested_at DateTime64(3, 'UTC')
        ) ENGINE = Null
        """,
        """
        CREATE MATERIALIZED VIEW incoming_to_events TO events AS
        WITH JSONExtract(data,
            'Tuple(tokens Nullable(Int64), type String, model String, provider String)') AS d
        SELECT namespace, type, subject, time, source, id, dataschema, data, nodeid, sequence,
            ingested_at, now64(3) AS stored_at,
            d.tokens AS tokens, d.type AS token_type, d.model AS model, d.provider AS provider,
            18446744073709551615 - toUnixTimestamp64Micro(now64(6)) AS first_wins
        FROM incoming
        """,
    ),
)


async def migrate(clickhouse: ClickHouse) -> int:
    """Bring the tables to the newest version, one migration at a time; returns the version."""
    await clickhouse.command(
        "CREATE TABLE IF NOT EXISTS schema_version (version UInt32) "
        "ENGINE = MergeTree ORDER BY version"
    )
    rows = await clickhouse.rows("SELECT max(version) FROM schema_version")
    version = int(rows[0][0])
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            await clickhouse.command(statement)
        await clickhouse.command(
            "INSERT INTO schema_version SELECT {number:UInt32}", {"number": number}
        )
    return len(MIGRATIONS)
