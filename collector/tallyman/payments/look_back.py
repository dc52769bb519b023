"""What became of a payment after the invoice was paid: given back at Stripe, or disputed.

The invoice stays paid: who decides what follows is told, and nothing is done about it here.
"""

from dataclasses import replace
from typing import Final

from tallyman.console import figures
from tallyman.domain.invoice import Invoice, IssueSeverity, ValidationIssue
from tallyman.domain.stripe_amount import exact_amount, stripe_amount
from tallyman.domain.stripe_operation import (
    OperationKind,
    OperationState,
    Returned,
    StripeOperation,
)
from tallyman.payments.operation_calls import OperationCalls, StripePayment
from tallyman.payments.stripe_stores import StripeStores

REFUNDED: Final = "stripe_payment_refunded"
DISPUTED: Final = "stripe_payment_disputed"


async def looked_back(
    stores: StripeStores, calls: OperationCalls, invoice: Invoice, payment_id: str
) -> Invoice:
    """The invoice with a warning of what was not asked for by us.

    Raises:
        StripeUnanswered: Stripe did not answer.
    """
    payment = await calls.payment(payment_id)
    asked = await stores.operations.of_invoice(invoice.namespace, invoice.id)
    known = sum(stripe_amount(one.amount, one.currency) for one in asked if _gives_back(one))
    kept = [one for one in invoice.validation_issues if one.code not in (REFUNDED, DISPUTED)]
    return replace(invoice, validation_issues=(*kept, *_issues(invoice, payment, known)))


def _gives_back(asked: StripeOperation) -> bool:
    is_refund = asked.kind is OperationKind.REFUND or (
        asked.kind is OperationKind.CREDIT_NOTE and asked.returned is Returned.REFUND
    )
    return is_refund and asked.state in (OperationState.PENDING, OperationState.SUCCEEDED)


def _issues(invoice: Invoice, payment: StripePayment, known: int) -> list[ValidationIssue]:
    issues = []
    if payment.refunded > known:
        amount = exact_amount(payment.refunded - known, invoice.currency)
        said = f"{figures.money(amount, invoice.currency)} of the payment was given back at Stripe"
        issues.append(ValidationIssue(REFUNDED, said, IssueSeverity.WARNING))
    if payment.dispute is not None:
        said = f"the customer disputes the payment: Stripe says {payment.dispute}"
        issues.append(ValidationIssue(DISPUTED, said, IssueSeverity.WARNING))
    return issues
