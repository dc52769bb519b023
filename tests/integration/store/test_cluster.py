"""What is asked on a cluster of two shards, which are not there: ClickHouse checks a question before it connects."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError
from tallyman.domain.completeness import Ends
from tallyman.domain.meter import MeterQuery
from tallyman.errors import Unavailable
from tallyman.store import meter_sql, rollup_sql
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.events import EventStore
from tallyman.store.lane_sql import DOORS, NODES
from tallyman.store.revision_sql import IS_CHANGED, REMEMBER_CHANGED
from tallyman.store.rollup_sql import HourOf
from tallyman.store.seen import Seen

from tests.rigs.meters import tokens_meter

SHARD = "<shard><replica><host>127.0.0.1</host><port>{port}</port></replica></shard>"


@pytest.fixture
async def two_shards(tmp_path: Path) -> AsyncIterator[ClickHouse]:
    """The event tables, each behind a Distributed one, as `Layout` makes them on a cluster."""
    shards = "".join(SHARD.format(port=port) for port in (1, 2))
    config = tmp_path / "config.xml"
    config.write_text(
        f"<clickhouse><remote_servers><two>{shards}</two></remote_servers></clickhouse>"
    )
    clickhouse = ClickHouse.embedded(f"{tmp_path / 'chdb'}?config-file={config}")
    await EventStore(clickhouse).migrate()
    for table in ("events", "seen", "dropped", "rollup", "changed_namespaces"):
        await clickhouse.command(f"RENAME TABLE {table} TO {table}_local")
        await clickhouse.command(
            f"CREATE TABLE {table} AS {table}_local "
            f"ENGINE = Distributed('two', currentDatabase(), {table}_local, rand())"
        )
    yield clickhouse
    await clickhouse.close()


async def test_no_question_of_a_reconciliation_or_a_meter_is_one_that_a_cluster_refuses(
    two_shards: ClickHouse,
) -> None:
    now = datetime.now(UTC)
    since = now - timedelta(days=1)
    seen, completeness = Seen(two_shards), Completeness(two_shards)
    meter = tokens_meter()
    hours = [HourOf("default", "llm.tokens", 500_000)]
    refused = "SELECT id FROM events WHERE id NOT IN (SELECT id FROM events WHERE place = 1)"

    with pytest.raises(ClickHouseError, match="Double-distributed IN/JOIN subqueries is denied"):
        await two_shards.rows(refused)
    for asked in (
        seen.remembered_only(since, now),
        completeness.holes.since(NODES, since),
        completeness.holes.at_the_ends(DOORS, {("", "usage/0"): Ends(0, 7, since)}, since),
        completeness.is_older(since),
        completeness.hours(since),
        completeness.heartbeats.heard(since),
        two_shards.rows(*rollup_sql.render(meter, MeterQuery(), [500_000])),
        two_shards.rows(*rollup_sql.render_hours(since)),
        two_shards.rows(rollup_sql.render_compared(hours)),
        two_shards.rows(*meter_sql.render(meter, MeterQuery())),
        two_shards.rows(*meter_sql.render(meter, MeterQuery(), may_be_changed=False)),
        two_shards.rows(IS_CHANGED, {"namespace": "default"}),
        two_shards.command(REMEMBER_CHANGED),
    ):
        with pytest.raises(Unavailable):
            await asked
