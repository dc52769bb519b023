"""What an invoice was counted by: whose events, and which of them count for a feature.

It is kept with the invoice, so that what is changed afterwards, such as a meter's dimensions, does not
change what the invoice says when it is counted again. It does not count: `store/usage_quantities.py`
does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallyman.domain.customer import SubjectSpan
from tallyman.domain.meter import DimensionFilter, Meter
from tallyman.domain.period import Period
from tallyman.domain.service_period import clip


@dataclass(frozen=True)
class Metered:
    """What counts for a feature: a meter as it was, and its events that pass every filter."""

    meter: Meter
    filters: tuple[DimensionFilter, ...] = ()


@dataclass(frozen=True)
class Counting:
    """Whose events were counted, and by which meter each feature, by its id."""

    spans: tuple[SubjectSpan, ...] = ()
    metered: Mapping[str, Metered] = field(default_factory=dict)


def subject_periods(spans: tuple[SubjectSpan, ...], period: Period) -> list[tuple[str, Period]]:
    """The parts of the period in which each subject's events are the customer's."""
    parts = []
    for span in spans:
        from_ = period.from_ if span.from_ is None else span.from_
        part = clip(period, from_, span.to)
        if part is not None:
            parts.append((span.subject, part))
    return parts
