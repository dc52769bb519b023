"""A rate card: the price of one thing in a plan, how often it is due, and what comes with it.

It does not rate: see `rating/`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from tallyman.domain.duration import Duration
from tallyman.domain.entitlement import Entitlement
from tallyman.domain.price import (
    NO_COMMITMENTS,
    NO_DISCOUNTS,
    Commitments,
    Discounts,
    Price,
    UnitConfig,
)


class PaymentTerm(StrEnum):
    """When in its period a price is due. Usage is always in arrears."""

    IN_ADVANCE = "in_advance"
    IN_ARREARS = "in_arrears"


@dataclass(frozen=True)
class TaxConfig:
    """The tax code of the line, by its id."""

    code_id: str
    behavior: Literal["inclusive", "exclusive"] | None = None


@dataclass(frozen=True)
class FeatureReference:
    """A feature by id; `key` is None where no feature has the id."""

    id: str
    key: str | None


@dataclass(frozen=True)
class RateCard:
    """`billing_cadence` None is once, for flat prices only; `key` is the feature's, if it has one."""

    key: str
    name: str
    price: Price
    feature: FeatureReference | None = None
    billing_cadence: Duration | None = None
    payment_term: PaymentTerm = PaymentTerm.IN_ARREARS
    unit_config: UnitConfig | None = None
    commitments: Commitments = NO_COMMITMENTS
    discounts: Discounts = NO_DISCOUNTS
    entitlement: Entitlement | None = None
    tax_config: TaxConfig | None = None
    currency: str | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
