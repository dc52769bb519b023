"""Tries the filters of a new feature on the events of late: one that nothing passes bills nothing.

It refuses nothing: the events may be yet to come.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tallyman.api.feature_bodies import FeatureWarning
from tallyman.domain.feature import Feature
from tallyman.domain.meter import MeterQuery
from tallyman.store.events import EventStore
from tallyman.store.meters import MeterStore

OF_LATE: Final = timedelta(days=31)
MOST_VALUES: Final = 10


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
        found = {row.dimensions[name] for row in await events.query(meter, every)}
        values = sorted(value or "nothing" for value in found)
        if values:
            more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
            message = (
                f"no event of the last {OF_LATE.days} days passes it: "
                f"{name} is {', '.join(values[:MOST_VALUES])}{more}"
            )
            warnings.append(FeatureWarning(field=f"meter.filters.{name}", message=message))
    return warnings
