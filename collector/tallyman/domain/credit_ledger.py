"""The ledger of credit: every movement goes from one account to another, so that all sum to zero.

Accounts are of a customer, a currency and a grant. It keeps nothing: see `store/credit_ledger.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tallyman.domain.content_id import content_id
from tallyman.domain.credit import CreditGrant, GrantKind
from tallyman.domain.money import EXACT, total


class CreditAccount(StrEnum):
    """Credit comes from funding, is available, and then consumed, expired, voided or taken away."""

    FUNDING = "funding"
    AVAILABLE = "available"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    VOIDED = "voided"
    ADJUSTED = "adjusted"


class TransactionType(StrEnum):
    """What happened. What is given back is consumed with a positive amount."""

    FUNDED = "funded"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    VOIDED = "voided"
    ADJUSTED = "adjusted"


@dataclass(frozen=True)
class CreditEntry:
    """An amount above zero of a grant that moves from one account to another.

    `billable_id` is what it pays for, and `line_id` the invoice line of that.
    """

    grant_id: str
    from_: CreditAccount
    to: CreditAccount
    amount: Decimal
    billable_id: str | None = None
    line_id: str | None = None

    def __post_init__(self) -> None:
        if self.amount <= 0 or self.from_ is self.to:
            raise ValueError("an entry moves an amount above zero between two accounts")


@dataclass(frozen=True)
class CreditTransaction:
    """Entries that are booked together, or not at all."""

    id: str
    namespace: str
    customer_id: str
    currency: str
    type: TransactionType
    name: str
    booked_at: datetime
    entries: tuple[CreditEntry, ...]
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    invoice_id: str | None = None

    @property
    def amount(self) -> Decimal:
        """By how much it changes what is available."""
        return balance(self.entries, CreditAccount.AVAILABLE)


def balance(entries: Iterable[CreditEntry], account: CreditAccount) -> Decimal:
    """What is on an account after these entries."""
    return total(
        one.amount if one.to is account else -one.amount
        for one in entries
        if account in (one.from_, one.to)
    )


def available_of(entries: Iterable[CreditEntry]) -> dict[str, Decimal]:
    """What is available of each grant after these entries."""
    found: dict[str, Decimal] = {}
    for one in entries:
        for account, amount in ((one.from_, -one.amount), (one.to, one.amount)):
            if account is CreditAccount.AVAILABLE:
                found[one.grant_id] = EXACT.add(found.get(one.grant_id, Decimal(0)), amount)
    return found


def funded(grant: CreditGrant, at: datetime) -> CreditTransaction:
    """The grant takes effect; the same however often it is made."""
    is_adjustment = grant.kind is GrantKind.ADJUSTMENT
    return CreditTransaction(
        id=content_id(grant.created_at, "credit", "funded", grant.id),
        namespace=grant.namespace,
        customer_id=grant.customer_id,
        currency=grant.currency,
        type=TransactionType.ADJUSTED if is_adjustment else TransactionType.FUNDED,
        name=grant.name,
        booked_at=at,
        entries=(
            CreditEntry(grant.id, CreditAccount.FUNDING, CreditAccount.AVAILABLE, grant.amount),
        ),
        description=grant.description,
        labels=grant.labels,
    )


def ended(
    grant: CreditGrant, left: Decimal, at: datetime, to: CreditAccount, number: int
) -> CreditTransaction:
    """What is left of a grant expires or is voided; `number` counts how often, since credit may be
    given back to it later."""
    type_ = TransactionType.EXPIRED if to is CreditAccount.EXPIRED else TransactionType.VOIDED
    return CreditTransaction(
        id=content_id(at, "credit", str(to), grant.id, str(number)),
        namespace=grant.namespace,
        customer_id=grant.customer_id,
        currency=grant.currency,
        type=type_,
        name=f"{grant.name}: {to}"[:256],
        booked_at=at,
        entries=(CreditEntry(grant.id, CreditAccount.AVAILABLE, to, left),),
    )


def adjusted(
    adjustment: CreditGrant, taken: Mapping[str, Decimal], at: datetime
) -> CreditTransaction:
    """Credit that is taken away, so much from each grant."""
    return CreditTransaction(
        id=content_id(at, "credit", "adjusted", adjustment.id),
        namespace=adjustment.namespace,
        customer_id=adjustment.customer_id,
        currency=adjustment.currency,
        type=TransactionType.ADJUSTED,
        name=adjustment.name,
        booked_at=at,
        entries=tuple(
            CreditEntry(grant_id, CreditAccount.AVAILABLE, CreditAccount.ADJUSTED, amount)
            for grant_id, amount in taken.items()
        ),
        description=adjustment.description,
        labels=adjustment.labels,
    )
