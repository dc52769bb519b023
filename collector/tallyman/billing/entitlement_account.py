"""A customer's entitlements with the usage counted against them, kept in memory. Pure.

It does not count: it says which shares of usage to count, and is told the numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final

from tallyman.billing.entitlement_granted import Granted, granted_at
from tallyman.domain.counting import Metered, subject_periods
from tallyman.domain.entitlement import Access, access
from tallyman.domain.entitlement_period import (
    NOTHING,
    Entitled,
    Entitlements,
    entitlements_at,
)
from tallyman.domain.meter import Aggregation
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period
from tallyman.store.entitlement_definitions import Definition
from tallyman.store.entitlement_sql import Share

# Sums and counts are kept in two parts, so that what is new needs only the last hours counted.
ADDITIVE: Final = frozenset({Aggregation.SUM, Aggregation.COUNT})
KEPT_RECENT: Final = timedelta(hours=1)
LONGEST_RECENT: Final = timedelta(hours=2)


class Part(Enum):
    """Of a counted period: before the cut, from the cut on, or the whole."""

    BASE = "base"
    RECENT = "recent"
    WHOLE = "whole"
    GRANTED = "granted"  # between two changes of what is granted


@dataclass(frozen=True)
class Wanted:
    """A part of a period of an account that must be counted."""

    account: "Account"
    part: Part
    counted: Period
    feature_id: str | None = None  # of what is granted

    def features(self, counted: Mapping[str, Metered]) -> Iterator[str]:
        """The ids of the features that are counted in such a part of the period."""
        if self.feature_id is not None:
            yield self.feature_id
            return
        for entitled in self.account.entitled.values():
            one = counted.get(entitled.feature_id)
            if entitled.metering is not None and one is not None:
                is_additive = one.meter.aggregation in ADDITIVE
                if entitled.metering.counted == self.counted and is_additive is not (
                    self.part is Part.WHOLE
                ):
                    yield entitled.feature_id

    def shares(self, group: int) -> Iterator[Share]:
        """The usage of each subject that it is made of."""
        cut = min(max(self.account.cut, self.counted.from_), self.counted.to)
        begin = cut if self.part is Part.RECENT else self.counted.from_
        end = cut if self.part is Part.BASE else self.counted.to
        if begin < end:
            period = Period(begin, end)
            for subject, part in subject_periods(self.account.definition.spans, period):
                yield Share(group, subject, part)


@dataclass
class Counter:
    """What was counted of one feature, in parts."""

    parts: dict[Part, Decimal] = field(default_factory=dict)
    granted: dict[Period, Decimal] = field(default_factory=dict)

    @property
    def usage(self) -> Decimal:
        """Nothing, until it is counted: then its period has just begun."""
        if (whole := self.parts.get(Part.WHOLE)) is not None:
            return whole
        return EXACT.add(self.parts.get(Part.BASE, NOTHING), self.parts.get(Part.RECENT, NOTHING))


class Account:
    """What a customer is entitled to now, with its counters."""

    def __init__(self, definition: Definition, now: datetime) -> None:
        self.definition = definition
        self.cut = now - KEPT_RECENT
        self.is_dirty = True  # whether it must be counted
        self.base_is_dirty = True  # and not only its last hours
        self._entitlements = Entitlements({}, now)
        self._counters: dict[str, Counter] = {}
        self._access: dict[str, Access] = {}  # as worked out since anything changed
        self._granted: dict[str, Granted] = {}
        self._now = now
        self.turn(now)

    def turn(self, now: datetime) -> bool:
        """Go on to the periods of the moment; whether any has changed.

        What has just begun is counted from 0 until it is counted.
        """
        until = self._entitlements.until
        if until is None or now < until:
            return False
        before, given = self._entitlements.by_feature, self.definition
        found = entitlements_at(given.subscriptions, given.resets, now, given.overrides)
        self._granted = granted_at(given, found, now)
        bounds = [x for one in self._granted.values() for x in one.bounds if x > now]
        until = min([*bounds, *([] if found.until is None else [found.until])], default=None)
        self._entitlements = Entitlements(found.by_feature, until)
        self._now = now
        self._counters = {
            key: self._counters[key] if before.get(key) == entitled else Counter()
            for key, entitled in self._entitlements.by_feature.items()
            if entitled.metering is not None
        }
        self._access = {}
        self.is_dirty = self.base_is_dirty = True
        return True

    @property
    def entitled(self) -> Mapping[str, Entitled]:
        """What the customer has, by feature key."""
        return self._entitlements.by_feature

    def stored(self, earliest: datetime) -> None:
        """Usage was stored, of that time or later."""
        self.is_dirty = True
        if earliest < self.cut:
            self.base_is_dirty = True

    def wanted(self, counted: Mapping[str, Metered], now: datetime) -> list[Wanted]:
        """What must be counted. Once in a while the cut goes on, and then it is everything."""
        if now - self.cut > LONGEST_RECENT:
            self.base_is_dirty = True
        if self.base_is_dirty:
            self.cut = now - KEPT_RECENT
        found: dict[tuple[Part, Period], Wanted] = {}
        for entitled in self._counted(counted):
            assert entitled.metering is not None  # noqa: S101 - _counted yields no other
            period = entitled.metering.counted
            for part in _parts(counted[entitled.feature_id], base=self.base_is_dirty):
                found[part, period] = Wanted(self, part, period)
        granted = list(self._wanted_granted(counted))
        self.is_dirty = self.base_is_dirty = False
        return [*found.values(), *granted]

    def _wanted_granted(self, counted: Mapping[str, Metered]) -> Iterator[Wanted]:
        for key, one in self._granted.items():
            entitled = self.entitled[key]
            if entitled.feature_id in counted:
                for part in one.parts:
                    known = self._counters[key].granted
                    if self.base_is_dirty or part not in known or part.to > self.cut:
                        yield Wanted(self, Part.GRANTED, part, entitled.feature_id)

    def take(self, wanted: Wanted, values: Mapping[str, Decimal]) -> None:
        """What was counted for it, by feature id; a feature that is absent was not asked for."""
        self._access = {}
        for key, entitled in self.entitled.items():
            metering, value = entitled.metering, values.get(entitled.feature_id)
            if wanted.part is Part.GRANTED:
                if wanted.feature_id == entitled.feature_id and value is not None:
                    self._counters[key].granted[wanted.counted] = value
            elif metering is not None and metering.counted == wanted.counted and value is not None:
                self._counters[key].parts[wanted.part] = value

    def has_grants(self, feature_key: str) -> bool:
        """Whether grants add to the entitlement."""
        return feature_key in self._granted

    def access(self, feature_key: str) -> Access:
        """What the customer may do with the feature now."""
        known = self._access.get(feature_key)
        if known is None:
            known = self._work_out(feature_key)
            if feature_key in self.entitled:  # others are as many as anyone may ask for
                self._access[feature_key] = known
        return known

    def _work_out(self, feature_key: str) -> Access:
        entitled = self.entitled.get(feature_key)
        if entitled is None:
            return access(None, NOTHING)
        if entitled.metering is None:
            return access(entitled.entitlement, NOTHING)
        usage = self._counters[feature_key].usage
        if (granted := self._granted.get(feature_key)) is not None:
            counted = self._counters[feature_key].granted
            return granted.access(entitled, usage, counted, self._now)
        return access(entitled.entitlement, EXACT.add(usage, entitled.metering.carried))

    def _counted(self, counted: Mapping[str, Metered]) -> Iterator[Entitled]:
        for entitled in self.entitled.values():
            if entitled.metering is not None and entitled.feature_id in counted:
                yield entitled


def _parts(one: Metered, *, base: bool) -> tuple[Part, ...]:
    if one.meter.aggregation not in ADDITIVE:
        return (Part.WHOLE,)
    return (Part.BASE, Part.RECENT) if base else (Part.RECENT,)
