"""Tries the filters of a new feature on the events of late: one that nothing passes bills nothing.

It refuses nothing: the events may be yet to come.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tallyman.api.feature_bodies import FeatureWarning
from tallyman.domain.feature import Feature
from tallyman.domain.meter import Meter, MeterQuery
from tallyman.errors import InvalidQuery
from tallyman.store.events import EventStore
from tallyman.store.meters import MeterStore

OF_LATE: Final = timedelta(days=31)
MOST_VALUES: Final = 10
MOST_READ: Final = 10_000


async def never_passed(
    events: EventStore, meters: MeterStore, feature: Feature, now: datetime
) -> list[FeatureWarning]:
    """A warning for each filter that no event passes, although the meter has events.

    Raises:
        Unavailable: a store does not answer.
    """
    if feature.meter is None:
        return []
    meter = await meters.get(feature.namespace, feature.meter.id)
    warnings = []
    for one in feature.meter.filters:
        name = one.dimension
        every = MeterQuery(from_=now - OF_LATE, group_by=(name,))
        if await events.query(meter, replace(every, filters=(one,))):
            continue
        values = await _values(events, meter, every)
        if values:
            message = f"no event of the last {OF_LATE.days} days passes it: {name} {values}"
            warnings.append(FeatureWarning(field=f"meter.filters.{name}", message=message))
    return warnings


async def _values(events: EventStore, meter: Meter, every: MeterQuery) -> str:
    """What the dimension is, in words; '' without events."""
    try:
        rows = await events.query(meter, every, most_rows=MOST_READ)
    except InvalidQuery:
        return f"has more than {MOST_READ:,} other values"
    values = sorted(row.dimensions[every.group_by[0]] or "nothing" for row in rows)
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return f"is {', '.join(values[:MOST_VALUES])}{more}" if values else ""
