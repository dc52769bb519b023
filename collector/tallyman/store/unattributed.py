"""Usage of subjects that belong to nobody: how much there is, and whose it could be.

It changes nothing: the events count once a customer has the subject.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tallyman.domain.attribution import NobodysReason, free_since, nobody
from tallyman.domain.completeness import HEARTBEAT
from tallyman.domain.period import microseconds
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.customers import CustomerStore
from tallyman.store.intake import FINAL_SETTINGS
from tallyman.store.revision_sql import counting, counting_everywhere

LOOKED_BACK: Final = timedelta(days=31)

_SINCE: Final = (
    f"type != '{HEARTBEAT}' AND time >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC')"
)


@dataclass(frozen=True)
class UnattributedSubject:
    """A subject without a customer, and its events of the days looked back."""

    namespace: str
    subject: str
    events: int
    reason: NobodysReason


class UnattributedUsage:
    """The events of the last 31 days whose subject belongs to no customer."""

    def __init__(self, clickhouse: ClickHouse, customers: CustomerStore) -> None:
        self._clickhouse = clickhouse
        self._customers = customers

    async def subjects(
        self, now: datetime, namespace: str | None = None
    ) -> list[UnattributedSubject]:
        """Those with events, of one namespace or of all, most events first."""
        counted = await self._counted(now - LOOKED_BACK, namespace)
        found: list[UnattributedSubject] = []
        for name, events in counted.items():
            owners = await self._customers.owners(name, events)
            free = {
                subject: owners.get(subject, [])
                for subject in events
                if all(span.to is not None for _, span in owners.get(subject, []))
            }
            freed = {
                subject: since
                for subject, spans in free.items()
                if (since := free_since(spans)) is not None
            }
            later = await self._counted_since(name, freed, now - LOOKED_BACK)
            for subject, spans in free.items():
                number = later.get(subject, 0) if subject in freed else events[subject]
                if number:
                    reason = nobody(subject, spans).reason
                    found.append(UnattributedSubject(name, subject, number, reason))
        return sorted(found, key=lambda one: (-one.events, one.namespace, one.subject))

    async def _counted(
        self, since: datetime, namespace: str | None
    ) -> Mapping[str, Mapping[str, int]]:
        parameters: dict[str, object] = {"since": microseconds(since)}
        where = [_SINCE, counting_everywhere() if namespace is None else counting()]
        if namespace is not None:
            where.append("namespace = {namespace:String}")
            parameters["namespace"] = namespace
        rows = await self._clickhouse.rows(
            f"SELECT namespace, subject, count() FROM events FINAL WHERE {' AND '.join(where)} "  # noqa: S608 – the conditions are ours
            "GROUP BY namespace, subject",
            parameters,
            FINAL_SETTINGS,
        )
        counted: dict[str, dict[str, int]] = defaultdict(dict)
        for name, subject, events in rows:
            counted[name][subject] = int(events)
        return counted

    async def _counted_since(
        self, namespace: str, freed: Mapping[str, datetime], since: datetime
    ) -> dict[str, int]:
        """The events of each subject after it was given up."""
        if not freed:
            return {}
        rows = await self._clickhouse.rows(
            f"SELECT subject, count() FROM events FINAL WHERE {_SINCE} "  # noqa: S608 – the conditions are ours
            f"AND namespace = {{namespace:String}} AND {counting()} "
            "AND subject IN {subjects:Array(String)} "
            "AND toUnixTimestamp64Micro(time) >= "
            "transform(subject, {subjects:Array(String)}, {freed:Array(Int64)}, 0) "
            "GROUP BY subject",
            {
                "since": microseconds(since),
                "namespace": namespace,
                "subjects": list(freed),
                "freed": [microseconds(moment) for moment in freed.values()],
            },
            FINAL_SETTINGS,
        )
        return {subject: int(events) for subject, events in rows}


def by_reason(found: Iterable[UnattributedSubject]) -> dict[NobodysReason, int]:
    """The events for each reason, of every reason."""
    counted = dict.fromkeys(NobodysReason, 0)
    for one in found:
        counted[one.reason] += one.events
    return counted
