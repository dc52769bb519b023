"""What the credit routes answer, as OpenMeter's v3 API has it; see `credit_bodies.py`."""

from datetime import datetime
from typing import Any, Literal, Self

from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.wire import Answer, Name, Numeric, ResourceKey, Time, Ulid
from tallyman.billing.credit_balance import CreditBalance
from tallyman.domain.credit import CreditGrant, FundingMethod, GrantStatus, SettlementStatus
from tallyman.domain.money import EXACT
from tallyman.store.credit_ledger import BookedTransaction


class CreditPurchaseAnswer(Answer):
    """What is paid for the credit, and how far that is."""

    currency: str
    per_unit_cost_basis: Numeric
    amount: Numeric
    availability_policy: Literal["on_creation"] | None = None
    settlement_status: SettlementStatus


class CreditFiltersAnswer(Answer):
    """What the credit pays for."""

    features: list[ResourceKey]


class CreditGrantAnswer(Answer):
    """Credit, and where it stands."""

    id: Ulid
    name: Name
    description: str | None = None
    labels: dict[str, str] | None = None
    created_at: Time
    updated_at: Time
    funding_method: FundingMethod
    currency: str
    amount: Numeric
    purchase: CreditPurchaseAnswer | None = None
    tax_config: dict[str, Any] | None = None
    filters: CreditFiltersAnswer | None = None
    priority: int
    effective_at: Time
    key: str | None = None
    expires_at: Time | None = None
    voided_at: Time | None = None
    status: GrantStatus

    @classmethod
    def of(cls, grant: CreditGrant, now: datetime) -> Self:
        """The grant on the wire."""
        bought = grant.purchase
        return cls(
            id=grant.id,
            name=grant.name,
            description=grant.description,
            labels=grant.labels or None,
            created_at=grant.created_at,
            updated_at=grant.updated_at,
            funding_method=grant.funding_method,
            currency=grant.currency,
            amount=grant.amount,
            purchase=None
            if bought is None
            else CreditPurchaseAnswer(
                currency=bought.currency,
                per_unit_cost_basis=bought.per_unit_cost_basis,
                amount=bought.amount,
                availability_policy=None if bought.waits_for_payment else "on_creation",
                settlement_status=bought.settlement_status,
            ),
            tax_config=grant.tax_config,
            filters=CreditFiltersAnswer(features=list(grant.features)) if grant.features else None,
            priority=grant.priority,
            effective_at=grant.effective_at,
            key=grant.key,
            expires_at=grant.expires_at,
            voided_at=grant.voided_at,
            status=grant.status_at(now),
        )


class CreditGrantPage(Answer):
    """A page of grants."""

    data: list[CreditGrantAnswer]
    meta: PaginatedMeta


class CreditBalanceAnswer(Answer):
    """What a customer has in a currency."""

    currency: str
    live: Numeric
    settled: Numeric
    pending: Numeric

    @classmethod
    def of(cls, balance: CreditBalance) -> Self:
        """The balance on the wire."""
        return cls(
            currency=balance.currency,
            live=balance.live,
            settled=balance.settled,
            pending=balance.pending,
        )


class CreditBalancesAnswer(Answer):
    """What a customer has, by currency."""

    retrieved_at: Time
    balances: list[CreditBalanceAnswer]


class AvailableBalance(Answer):
    """What was available before and after."""

    before: Numeric
    after: Numeric


class CreditTransactionAnswer(Answer):
    """A line of the ledger; the amount is what it changes of what is available."""

    id: Ulid
    name: Name
    description: str | None = None
    labels: dict[str, str] | None = None
    created_at: Time
    booked_at: Time
    type: Literal["funded", "consumed", "expired", "voided"]
    currency: str
    amount: Numeric
    available_balance: AvailableBalance

    @classmethod
    def of(cls, one: BookedTransaction) -> Self:
        """The transaction on the wire; what adjusts the balance is funded or consumed."""
        type_: Any = str(one.type)
        if type_ == "adjusted":
            type_ = "funded" if one.amount > 0 else "consumed"
        return cls(
            id=one.id,
            name=one.name,
            description=one.description,
            labels=one.labels or None,
            created_at=one.booked_at,
            booked_at=one.booked_at,
            type=type_,
            currency=one.currency,
            amount=one.amount,
            available_balance=AvailableBalance(
                before=EXACT.subtract(one.available, one.amount), after=one.available
            ),
        )


class CreditCursorPage(Answer):
    """Where the page is."""

    size: int
    next: str | None
    previous: str | None
    first: str | None
    last: str | None


class CreditCursorMeta(Answer):
    """Where the page is."""

    page: CreditCursorPage


class CreditTransactionPage(Answer):
    """A page of the ledger."""

    data: list[CreditTransactionAnswer]
    meta: CreditCursorMeta


class CreditAdjustmentAnswer(Answer):
    """The adjustment that was made."""

    name: Name
    description: str | None = None
    labels: dict[str, str] | None = None
