"""Wires the collector: the only module that knows which part is which."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from aiohttp import web

from tallyman.api import events, meters
from tallyman.config import Settings
from tallyman.domain.builtin_meters import BUILTIN_METERS, DIMENSIONS, EVENT_TYPE
from tallyman.domain.meter import Meter
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore

PREFIXES = ("/api/v3/openmeter", "/v3/openmeter", "/openmeter")


def build(settings: Settings) -> web.Application:
    """The API over the embedded store."""
    app = web.Application()
    app.cleanup_ctx.append(lambda app: _store(app, settings))
    for prefix in PREFIXES:
        app.router.add_post(f"{prefix}/events", events.ingest)
        app.router.add_post(f"{prefix}/meters/{{meter}}/query", meters.query)
    app[meters.METERS] = _builtin_meters()
    return app


async def _store(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    clickhouse = ClickHouse.embedded(str(settings.data_dir / "chdb"))
    store = EventStore(clickhouse)
    await store.migrate()
    app[events.STORE] = store
    yield
    await clickhouse.close()


def _builtin_meters() -> dict[str, Meter]:
    now = datetime.now(UTC)
    return {
        meter.key: Meter(
            id=meter.key,
            namespace="default",
            key=meter.key,
            name=meter.name,
            aggregation=meter.aggregation,
            event_type=EVENT_TYPE,
            value_property=meter.value_property,
            dimensions=dict(DIMENSIONS),
            created_at=now,
            updated_at=now,
            description=meter.description,
            only=meter.only,
        )
        for meter in BUILTIN_METERS
    }
