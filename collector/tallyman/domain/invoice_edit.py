"""What can be changed of a draft by hand: what is said about it, never what it amounts to. Pure.

Whether it may be changed now, its state says (`invoice_state.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tallyman.domain.billing_profile import CollectionMethod, Supplier
from tallyman.domain.customer import Address
from tallyman.domain.duration import Duration
from tallyman.domain.invoice import Invoice, act
from tallyman.domain.invoice_state import Trigger, is_mutable
from tallyman.errors import InvoiceCannotBeEdited


@dataclass(frozen=True)
class Invoicing:
    """How the draft goes on."""

    auto_advance: bool
    draft_period: Duration


@dataclass(frozen=True)
class Payment:
    """How it is paid."""

    collection_method: CollectionMethod
    due_after: Duration


@dataclass(frozen=True)
class InvoiceEdit:
    """What the draft says from now on; None of the last two leaves them as they are.

    Of the supplier its id and key stay; of the customer everything but these two.
    """

    supplier: Supplier
    customer_name: str
    customer_address: Address | None = None
    description: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    invoicing: Invoicing | None = None
    payment: Payment | None = None


def edited(invoice: Invoice, edit: InvoiceEdit, now: datetime) -> Invoice:
    """The draft as it is edited, to be checked again; its lines are the same.

    Another draft period begins now.

    Raises:
        InvoiceCannotBeEdited: it is no draft any more, or is being worked on.
    """
    if not is_mutable(invoice.state):
        raise InvoiceCannotBeEdited(f"an invoice in {invoice.state} cannot be edited")
    workflow, kept = invoice.workflow, invoice.supplier
    if edit.invoicing is not None:
        workflow = replace(workflow, **vars(edit.invoicing))
    if edit.payment is not None:
        workflow = replace(workflow, **vars(edit.payment))
    same_period = workflow.draft_period == invoice.workflow.draft_period
    changed = replace(
        invoice,
        supplier=replace(edit.supplier, id=kept.id, key=kept.key),
        customer=replace(
            invoice.customer, name=edit.customer_name, billing_address=edit.customer_address
        ),
        description=edit.description,
        labels=dict(edit.labels),
        workflow=workflow,
        draft_until=invoice.draft_until if same_period else None,
    )
    return act(changed, Trigger.UPDATE, now)
