"""Credit grants and the ledger's transactions as rows, and back. Pure.

It runs no statement: see `credit_grants.py` and `credit_ledger.py`.
"""

from typing import Any

from msgspec import convert
from sqlalchemy import Row

from tallyman.domain.credit import (
    CreditGrant,
    CreditPurchase,
    FundingMethod,
    GrantKind,
)
from tallyman.domain.credit_ledger import CreditTransaction
from tallyman.domain.money import from_minor_units, to_minor_units

_SAME = (
    "id", "namespace", "customer_id", "currency", "name", "description", "labels", "tax_config",
    "priority", "effective_at", "expires_at", "voided_at", "key", "created_at", "updated_at",
)  # fmt: skip


def grant_values(grant: CreditGrant) -> dict[str, Any]:
    """The row of a grant."""
    return {
        **{name: getattr(grant, name) for name in _SAME},
        "amount": to_minor_units(grant.amount, grant.currency),
        "kind": str(grant.kind),
        "funding_method": str(grant.funding_method),
        "purchase": grant.purchase,
        "waits": grant.waits_for_payment,
        "features": list(grant.features),
    }


def grant_of(row: Row[Any]) -> CreditGrant:
    """The grant of a row."""
    return CreditGrant(
        **{name: getattr(row, name) for name in _SAME},
        amount=from_minor_units(row.amount, row.currency),
        kind=GrantKind(row.kind),
        funding_method=FundingMethod(row.funding_method),
        purchase=None if row.purchase is None else convert(row.purchase, CreditPurchase),
        features=tuple(row.features),
    )


def transaction_values(one: CreditTransaction, sequence: int, available: int) -> dict[str, Any]:
    """The row of a transaction, which leaves so much available, in minor units."""
    return {
        "id": one.id,
        "namespace": one.namespace,
        "customer_id": one.customer_id,
        "currency": one.currency,
        "sequence": sequence,
        "type": str(one.type),
        "name": one.name,
        "description": one.description,
        "labels": one.labels,
        "invoice_id": one.invoice_id,
        "amount": to_minor_units(one.amount, one.currency),
        "available": available,
        "booked_at": one.booked_at,
    }


def entry_values(one: CreditTransaction) -> list[dict[str, Any]]:
    """The rows of its entries."""
    return [
        {
            "transaction_id": one.id,
            "position": position,
            "grant_id": entry.grant_id,
            "from_account": str(entry.from_),
            "to_account": str(entry.to),
            "amount": to_minor_units(entry.amount, one.currency),
            "billable_id": entry.billable_id,
            "line_id": entry.line_id,
        }
        for position, entry in enumerate(one.entries)
    ]
