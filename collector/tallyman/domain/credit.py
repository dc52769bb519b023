"""Credit that is granted to a customer: how much, for what, from when until when.

It does not know how much of it is left: see `credit_ledger.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tallyman.domain.event import LATEST
from tallyman.domain.period import Period


class FundingMethod(StrEnum):
    """How the credit is paid for: not at all, or in a way that is settled elsewhere."""

    NONE = "none"
    EXTERNAL = "external"


class SettlementStatus(StrEnum):
    """How far the payment for a purchased grant is."""

    PENDING = "pending"
    AUTHORIZED = "authorized"
    SETTLED = "settled"


class GrantStatus(StrEnum):
    """Pending is not yet in effect."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"
    VOIDED = "voided"


class GrantKind(StrEnum):
    """Where it comes from. An adjustment is no grant to the API, only credit."""

    GRANT = "grant"
    ADJUSTMENT = "adjustment"
    TOP_UP = "top_up"


@dataclass(frozen=True)
class CreditPurchase:
    """What is paid for the credit. One that waits for its payment is not in effect before it."""

    currency: str
    amount: Decimal
    per_unit_cost_basis: Decimal = Decimal(1)
    settlement_status: SettlementStatus = SettlementStatus.PENDING
    waits_for_payment: bool = False


@dataclass(frozen=True)
class CreditGrant:
    """In effect in [effective_at, expires_at), of the features named, or of everything.

    The amount is in whole minor units of the currency. Of several, that with the lowest priority
    is used first.
    """

    id: str
    namespace: str
    customer_id: str
    currency: str
    amount: Decimal
    name: str
    effective_at: datetime
    created_at: datetime
    updated_at: datetime
    funding_method: FundingMethod = FundingMethod.NONE
    kind: GrantKind = GrantKind.GRANT
    priority: int = 10
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    features: tuple[str, ...] = ()
    key: str | None = None
    purchase: CreditPurchase | None = None
    tax_config: dict[str, Any] | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def waits_for_payment(self) -> bool:
        """Whether it cannot be used before it is paid, and is not."""
        return (
            self.purchase is not None
            and self.purchase.waits_for_payment
            and self.purchase.settlement_status is not SettlementStatus.SETTLED
        )

    def has_begun(self, now: datetime) -> bool:
        """Whether it was ever in effect."""
        return self.effective_at <= now and not self.waits_for_payment

    def status_at(self, now: datetime) -> GrantStatus:
        """Where it stands."""
        if self.voided_at is not None and self.voided_at <= now:
            return GrantStatus.VOIDED
        if self.expires_at is not None and self.expires_at <= now:
            return GrantStatus.EXPIRED
        return GrantStatus.ACTIVE if self.has_begun(now) else GrantStatus.PENDING

    def is_for(self, feature_key: str | None) -> bool:
        """Whether it pays for the feature; None is what has none, such as a fee."""
        return not self.features or feature_key in self.features

    def pays(self, feature_key: str | None, service_period: Period, now: datetime) -> bool:
        """Whether it pays for a service of that time: it was in effect for some of it.

        Usage of a period counts as if it came before a grant of it expired, and after one began.
        """
        return (
            self.is_for(feature_key)
            and self.voided_at is None
            and self.has_begun(now)
            and self.effective_at < service_period.to
            and (self.expires_at is None or service_period.from_ < self.expires_at)
        )

    @property
    def order(self) -> tuple[int, datetime, datetime, str]:
        """Which of several is used first: by priority, the earliest to expire, the eldest."""
        return self.priority, self.expires_at or LATEST, self.effective_at, self.id
