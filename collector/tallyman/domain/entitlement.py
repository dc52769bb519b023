"""What a customer may use: the template on a rate card, and whether usage leaves any of it.

It does not count: usage comes in as an argument.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.period import Period


@dataclass(frozen=True)
class MeteredEntitlement:
    """`limit` units of a feature in each usage period; None is as much as one likes.

    A soft limit is counted and never refuses. Without `usage_period` it is the billing cadence.
    """

    limit: Decimal | None = None
    is_soft_limit: bool = False
    usage_period: Duration | None = None


@dataclass(frozen=True)
class StaticEntitlement:
    """A setting for the product to read; `config` is JSON text."""

    config: str


@dataclass(frozen=True)
class BooleanEntitlement:
    """The feature is there."""


Entitlement = MeteredEntitlement | StaticEntitlement | BooleanEntitlement


class NoAccessReason(StrEnum):
    """Why a feature cannot be used, as the API has it."""

    USAGE_LIMIT_REACHED = "usage_limit_reached"
    FEATURE_UNAVAILABLE = "feature_unavailable"
    FEATURE_NOT_FOUND = "feature_not_found"
    NO_CREDIT_AVAILABLE = "no_credit_available"


@dataclass(frozen=True)
class Access:
    """Whether a feature may be used now. Of a metered one, also how much is left and by how much
    a soft limit is passed; `balance` is None where there is no limit."""

    has_access: bool
    reason: NoAccessReason | None = None
    usage: Decimal = Decimal(0)
    balance: Decimal | None = None
    overage: Decimal = Decimal(0)
    config: str | None = None


def access(entitlement: Entitlement | None, usage: Decimal) -> Access:
    """What the entitlement allows after so much usage in its period; None is no entitlement.

    The usage is the metered quantity, unrounded and before any conversion. At the limit nothing is
    left, so that a hard limit refuses there and not one unit later.
    """
    match entitlement:
        case None:
            return Access(False, NoAccessReason.FEATURE_UNAVAILABLE)
        case BooleanEntitlement():
            return Access(True)
        case StaticEntitlement(config):
            return Access(True, config=config)
        case MeteredEntitlement(limit, is_soft):
            if limit is None:
                return Access(True, usage=usage)
            left = limit - usage
            balance, overage = max(left, Decimal(0)), max(-left, Decimal(0))
            if left > 0 or is_soft:
                return Access(True, None, usage, balance, overage)
            return Access(False, NoAccessReason.USAGE_LIMIT_REACHED, usage, balance, overage)
        case _:
            assert_never(entitlement)


def granted_access(
    entitlement: MeteredEntitlement, usage: Decimal, balance: Decimal, overage: Decimal
) -> Access:
    """The same of an entitlement that grants add to, from what is left of all of them."""
    if balance > 0 or entitlement.is_soft_limit:
        return Access(True, None, usage, balance, overage)
    return Access(False, NoAccessReason.USAGE_LIMIT_REACHED, usage, balance, overage)


def usage_period_at(
    entitlement: MeteredEntitlement, cadence: Duration, anchor: datetime, at: datetime
) -> Period:
    """The period in which usage is counted against the limit; it resets where the next begins."""
    return Cadence(anchor, entitlement.usage_period or cadence).period_at(at)
