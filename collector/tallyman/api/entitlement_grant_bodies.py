"""The bodies of entitlement grants, overrides and histories, in OpenMeter's v1 names."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from tallyman.api.new_subscription_bodies import Moment
from tallyman.api.wire import (
    DURATION,
    NO_NUL,
    Answer,
    Body,
    ResourceKey,
    Time,
    Ulid,
    check_duration,
)
from tallyman.billing.entitlement_history import History, Window
from tallyman.domain.duration import Cadence, Duration, parse_duration
from tallyman.domain.entitlement_grant import Burned, EntitlementGrant
from tallyman.domain.period import Period
from tallyman.domain.service_period import whole_milliseconds

LARGEST = 10**15
_NAMED = ("DAY", "WEEK", "MONTH", "YEAR")
SHORTEST = timedelta(days=1)  # of a recurrence: each is counted by itself
_STEPS = {
    "HOUR": parse_duration("PT1H"),
    "DAY": parse_duration("P1D"),
    "WEEK": parse_duration("P1W"),
    "MONTH": Duration(1),
    "YEAR": Duration(12),
}


def _amount(value: float) -> float:
    if not 0 <= value <= LARGEST:
        raise PydanticCustomError(
            "amount", "must be from 0 to {most}", {"rule": "max", "most": LARGEST}
        )
    return value


# v1 has numbers where v3 has strings; they are taken as they are written.
Amount = Annotated[float, AfterValidator(_amount), Field(json_schema_extra={"minimum": 0})]
Text = Annotated[str, Field(max_length=256, pattern=NO_NUL)]


class ExpirationBody(Body):
    """So long after it has begun."""

    duration: Literal["HOUR", "DAY", "WEEK", "MONTH", "YEAR"]
    count: Annotated[int, Field(ge=1, le=1000)]

    def after(self, moment: datetime) -> datetime:
        """When it is over."""
        return (_STEPS[self.duration] * self.count).after(moment)


def _interval(value: str) -> str:
    if value not in _NAMED and parse_duration(check_duration(value)).mean < SHORTEST:
        raise PydanticCustomError("interval", "must be at least a day", {"rule": "invalid"})
    return value


class RecurrenceBody(Body):
    """When it is whole again: each interval after the anchor, by default after it has begun."""

    interval: Annotated[
        str,
        AfterValidator(_interval),
        Field(description="At least a day."),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "enum": list(_NAMED)},
                    {"type": "string", "format": "ISO8601", "pattern": DURATION},
                ]
            }
        ),
    ]
    anchor: Moment | None = None

    def cadence(self, begins: datetime) -> Cadence:
        """The periods of a grant that begins then."""
        step = _STEPS.get(self.interval) or parse_duration(self.interval)
        return Cadence(whole_milliseconds(self.anchor or begins), step)


class RecurrenceAnswer(Answer):
    """When it is whole again."""

    interval: str
    intervalISO: str
    anchor: Time

    @classmethod
    def of(cls, cadence: Cadence) -> Self:
        """The recurrence on the wire."""
        step = str(cadence.step)
        names = {str(known): name for name, known in _STEPS.items()}
        return cls(interval=names.get(step, step), intervalISO=step, anchor=cadence.anchor)


class CreateEntitlementGrantRequest(Body):
    """So many units more, from a time in what is counted now or later.

    At a reset what is left becomes min(maxRolloverAmount, max(left, minRolloverAmount)); where it
    recurs it is whole again.
    """

    amount: Annotated[Amount, Field(gt=0)]
    effectiveAt: Moment
    priority: Annotated[int, Field(ge=0, le=255)] = 1
    expiration: ExpirationBody | None = None
    minRolloverAmount: Amount = 0
    maxRolloverAmount: Amount = 0
    metadata: Annotated[dict[str, Text], Field(max_length=50)] | None = None
    recurrence: RecurrenceBody | None = None


class EntitlementGrantAnswer(Answer):
    """A grant."""

    id: Ulid
    entitlementId: Ulid
    amount: float
    priority: int
    effectiveAt: Time
    expiration: ExpirationBody | None = None
    expiresAt: Time | None = None
    minRolloverAmount: float
    maxRolloverAmount: float
    metadata: dict[str, str] | None = None
    recurrence: RecurrenceAnswer | None = None
    nextRecurrence: Time | None = None
    createdAt: Time
    updatedAt: Time
    voidedAt: Time | None = None

    @classmethod
    def of(cls, grant: EntitlementGrant, entitlement_id: str, now: datetime) -> Self:
        """The grant on the wire, as it is now."""
        given, cadence = grant.expiration, grant.recurrence
        return cls(
            id=grant.id,
            entitlementId=entitlement_id,
            amount=float(grant.amount),
            priority=grant.priority,
            effectiveAt=grant.effective_at,
            expiration=None if given is None else ExpirationBody.model_validate(given),
            expiresAt=grant.expires_at,
            minRolloverAmount=float(grant.min_rollover),
            maxRolloverAmount=float(grant.max_rollover),
            metadata=grant.metadata or None,
            recurrence=None if cadence is None else RecurrenceAnswer.of(cadence),
            nextRecurrence=grant.next_recurrence(now),
            createdAt=grant.created_at,
            updatedAt=grant.updated_at,
            voidedAt=grant.voided_at,
        )


class OverrideEntitlementRequest(Body):
    """The customer's own limit in place of the rate card's, from now on.

    `issueAfterReset` units in each usage period, or with `isUnlimited` as much as one likes.
    """

    type: Literal["metered"]
    featureKey: ResourceKey | None = None
    issueAfterReset: Amount | None = None
    isUnlimited: bool = False
    isSoftLimit: bool = False


class PeriodAnswer(Answer):
    """[from, to)."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time

    @classmethod
    def of(cls, period: Period) -> Self:
        """The period on the wire."""
        return cls(from_=period.from_, to=period.to)


class WindowAnswer(Answer):
    """What was used in a window, and what was left as it began."""

    period: PeriodAnswer
    usage: float
    balanceAtStart: float

    @classmethod
    def of(cls, window: Window) -> Self:
        """The window on the wire."""
        return cls(
            period=PeriodAnswer.of(window.period),
            usage=float(window.usage),
            balanceAtStart=float(window.balance_at_start),
        )


class GrantUsageAnswer(Answer):
    """How much of a grant was used; `included` is what the rate card allows."""

    grantId: str
    usage: float


class BurndownAnswer(Answer):
    """Between two changes of what is granted: what was used, and what was left before and after."""

    period: PeriodAnswer
    usage: float
    overage: float
    balanceAtStart: float
    grantBalancesAtStart: dict[str, float]
    balanceAtEnd: float
    grantBalancesAtEnd: dict[str, float]
    grantUsages: list[GrantUsageAnswer]

    @classmethod
    def of(cls, one: Burned) -> Self:
        """The part on the wire."""
        return cls(
            period=PeriodAnswer.of(one.period),
            usage=float(one.usage),
            overage=float(one.overage),
            balanceAtStart=float(sum(one.at_start.values(), Decimal(0))),
            grantBalancesAtStart=_floats(one.at_start),
            balanceAtEnd=float(one.balance),
            grantBalancesAtEnd=_floats(one.at_end),
            grantUsages=[
                GrantUsageAnswer(grantId=key, usage=float(used)) for key, used in one.used.items()
            ],
        )


class EntitlementHistoryAnswer(Answer):
    """By window, and by what grants and resets made of it."""

    windowedHistory: list[WindowAnswer]
    burndownHistory: list[BurndownAnswer]

    @classmethod
    def of(cls, found: History) -> Self:
        """The history on the wire."""
        return cls(
            windowedHistory=[WindowAnswer.of(one) for one in found.windows],
            burndownHistory=[BurndownAnswer.of(one) for one in found.burned],
        )


def _floats(balances: Mapping[str, Decimal]) -> dict[str, float]:
    return {key: float(left) for key, left in sorted(balances.items())}
