"""The bodies of the top-up routes, which are Tallyman's own."""

from datetime import datetime
from typing import Any, Self

from tallyman.api.credit_bodies import amount_of
from tallyman.api.customer_bodies import CurrencyCode
from tallyman.api.wire import Answer, Body, Numeric, NumericText, Time
from tallyman.domain.credit_top_up import CreditTopUp
from tallyman.errors import InvalidInput, InvalidParameter


class PutCreditTopUpRequest(Body):
    """Below `threshold` of live credit `amount` is bought through Stripe, as long as a calendar month
    (UTC) comes to no more than `most_per_month`."""

    threshold: NumericText
    amount: NumericText
    most_per_month: NumericText

    def setting(
        self, namespace: str, customer_id: str, currency: str, now: datetime
    ) -> CreditTopUp:
        """The setting that is asked for.

        Raises:
            InvalidInput: an amount is none, or the month's is smaller than one top-up.
        """
        given = {
            name: amount_of(getattr(self, name), currency, name)
            for name in ("threshold", "amount", "most_per_month")
        }
        if given["threshold"] <= 0 or given["amount"] <= 0:
            name = "threshold" if given["threshold"] <= 0 else "amount"
            raise _wrong(name, "must be above 0", minimum=0)
        if given["most_per_month"] < given["amount"]:
            raise _wrong("most_per_month", "must be as much as amount, or more")
        return CreditTopUp(
            namespace, customer_id, currency, **given, created_at=now, updated_at=now
        )


class CreditTopUpAnswer(Answer):
    """How a customer's credit in a currency is topped up."""

    currency: CurrencyCode
    threshold: Numeric
    amount: Numeric
    most_per_month: Numeric
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, setting: CreditTopUp) -> Self:
        """The setting on the wire."""
        return cls(**{name: getattr(setting, name) for name in cls.model_fields})


def _wrong(field: str, reason: str, **extra: Any) -> InvalidInput:
    return InvalidInput(f"{field} {reason}", [InvalidParameter(field, "min", reason, extra=extra)])
