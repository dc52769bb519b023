"""Rows of what Stripe is asked: written, read as values, and shown in the audit log.

What becomes of an operation is `stripe_operations.py`'s.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row

from tallyman.domain.stripe_operation import (
    OperationKind,
    OperationLine,
    OperationState,
    Returned,
    StripeOperation,
)

_ASKED: Final = ("kind", "customer_id", "currency", "lines", "invoice_id", "top_up_id", "returned")


@dataclass(frozen=True)
class HeldOperation:
    """An operation that nobody else works on, with what Stripe was asked so far.

    `generation` counts what was begun under one key, `attempted_at` is when; `round` counts the
    payments that were asked for, `asked_at` is when; `failures` the looks that Stripe did not answer.
    """

    operation: StripeOperation
    generation: int = 0
    attempted_at: datetime | None = None
    round: int = 0
    asked_at: datetime | None = None
    failures: int = 0
    hints: int = 0


def asked_values(operation: StripeOperation) -> dict[str, Any]:
    """What was asked for, as it is kept: asked again, it is the same."""
    values: dict[str, Any] = msgspec.to_builtins(
        {name: getattr(operation, name) for name in _ASKED}
    )
    return values


def operation_of(row: Row[Any]) -> StripeOperation:
    """The operation of a row."""
    same = ("id", "namespace", "customer_id", "currency", "invoice_id", "top_up_id", "is_canceling")
    also = ("stripe_id", "payment_id", "said", "created_at", "updated_at")
    return StripeOperation(
        **{name: getattr(row, name) for name in (*same, *also)},
        kind=OperationKind(row.kind),
        state=OperationState(row.state),
        returned=Returned(row.returned),
        lines=msgspec.convert(row.lines, tuple[OperationLine, ...]),
    )


def held_of(row: Row[Any]) -> HeldOperation:
    """The row as whoever has claimed it works on it."""
    names = ("generation", "attempted_at", "round", "asked_at", "failures", "hints")
    held = HeldOperation(operation_of(row))
    return replace(held, **{name: getattr(row, name) for name in names})


def audited_values(operation: StripeOperation) -> dict[str, Any]:
    """What the audit log says of an operation."""
    shown: dict[str, Any] = msgspec.to_builtins(
        {
            **{name: getattr(operation, name) for name in _ASKED},
            "amount": operation.amount,
            "state": operation.state,
            "stripe_id": operation.stripe_id,
            "said": operation.said,
        }
    )
    return shown
