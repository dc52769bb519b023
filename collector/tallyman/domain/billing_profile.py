"""A billing profile: who sends the invoices, and how they go from gathering to paid.

It does not move invoices: see `invoice_state.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tallyman.domain.customer import Address
from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.service_period import EndProration


class App(StrEnum):
    """Who sends the invoices and takes the money; the sandbox and external invoicing do not."""

    SANDBOX = "sandbox"
    STRIPE = "stripe"
    EXTERNAL_INVOICING = "external_invoicing"


class CollectionMethod(StrEnum):
    """Whether the payment is taken, or asked for."""

    CHARGE_AUTOMATICALLY = "charge_automatically"
    SEND_INVOICE = "send_invoice"


@dataclass(frozen=True)
class Supplier:
    """Who the money is owed to."""

    name: str | None = None
    id: str | None = None
    key: str | None = None
    tax_code: str | None = None
    billing_address: Address | None = None


@dataclass(frozen=True)
class Workflow:
    """The defaults are the API's.

    `collection_interval` is how long after a period's end late events still count in its invoice;
    `draft_period` how long it is a draft for review; `due_after` how long there is to pay it.
    `anchored` collects invoices at its own dates instead of the subscription's. `waits_in_draft` and
    `waits_to_issue` are whether a draft, and an invoice before it is issued, waits until whoever
    invoices outside has it.
    """

    collection_interval: Duration = field(default=Duration(0, timedelta(hours=1)))
    anchored: Cadence | None = None
    auto_advance: bool = True
    draft_period: Duration = field(default=Duration())
    progressive_billing: bool = True
    end_proration: EndProration = EndProration.BILL_ACTUAL_PERIOD
    collection_method: CollectionMethod = CollectionMethod.CHARGE_AUTOMATICALLY
    due_after: Duration = field(default=Duration(0, timedelta(days=30)))
    tax_enabled: bool = True
    tax_enforced: bool = False
    waits_in_draft: bool = False
    waits_to_issue: bool = False


@dataclass(frozen=True)
class BillingProfile:
    """One of a namespace is its default. Its app is chosen when it is made, and stays."""

    id: str
    namespace: str
    name: str
    supplier: Supplier
    workflow: Workflow
    is_default: bool
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None
    app: App = App.SANDBOX
