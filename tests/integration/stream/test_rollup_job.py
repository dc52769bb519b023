"""The rollup in a server: refreshed by itself, while meters are asked and the server is stopped."""

import asyncio
import time
from pathlib import Path

from tallyman import connections
from tallyman.config import Settings
from tallyman.metrics import ROLLUP_AT
from tallyman.store.events import EventStore
from tallyman.stream.rollup_job import refresh_for_ever

from tests.integration.stream.test_reconcile import at_once, numbered
from tests.rigs.stream import until


async def test_a_server_refreshes_the_rollup_by_itself(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", billing_settle_seconds=0)
    clickhouse = connections.open_clickhouse(settings)
    store, rollup = EventStore(clickhouse), connections.rollup(settings, clickhouse)
    await store.migrate()
    await store.accept(at_once(*numbered(1, 2)))

    stored_at = time.time()
    ROLLUP_AT.set(0)
    job = asyncio.create_task(refresh_for_ever(rollup, 0.01))
    await until(lambda: ROLLUP_AT._value.get() > stored_at, "a refresh of what is stored")
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    assert await rollup.changed("default", "llm.tokens") == set()
    assert (await clickhouse.rows("SELECT sum(length(events)) > 0 FROM rollup"))[0][0]

    await clickhouse.close()
