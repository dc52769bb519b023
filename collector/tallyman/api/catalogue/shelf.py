"""The stores that a catalogue is kept in, for one namespace at one moment.

It decides nothing.
"""

from datetime import datetime

from tallyman.domain.access import LOCAL
from tallyman.domain.plan import Plan
from tallyman.store.comparison import Comparison
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.features import FeatureStore
from tallyman.store.meters import MeterStore
from tallyman.store.plans import PlanStore
from tallyman.store.subscriptions import SubscriptionStore


class Shelf:
    """Every store of a catalogue; `now` is when all of it happens, `by` who does it."""

    def __init__(self, database: Database, namespace: str, now: datetime, by: str = LOCAL) -> None:
        self.database = database
        self.namespace = namespace
        self.now = now
        self.by = by
        self.meters = MeterStore(database)
        self.features = FeatureStore(database)
        self.plans = PlanStore(database)
        self.customers = CustomerStore(database)
        self.subscriptions = SubscriptionStore(database)

    async def meter_keys(self) -> dict[str, str]:
        """The key of each meter by its id."""
        meters, _ = await self.meters.page(self.namespace, limit=None)
        return {meter.id: meter.key for meter in meters}

    async def feature_ids(self) -> dict[str, str]:
        """The id of each feature by its key."""
        features, _ = await self.features.list(self.namespace, limit=None)
        return {feature.key: feature.id for feature in features}

    async def versions(self, key: object = None) -> list[Plan]:
        """The versions of a plan, or of all, in their order."""
        where = [Comparison("key", "eq", (key,))] if isinstance(key, str) else []
        found, _ = await self.plans.list(
            self.namespace, where, now=self.now, order_by="version", limit=None
        )
        return found
