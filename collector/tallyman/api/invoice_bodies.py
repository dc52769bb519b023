"""An invoice as OpenMeter's v3 API has it, with what explains its lines beside it.

What is above the lines is here; a line is `invoice_line_bodies.py`'s.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints

from tallyman.api.billing_profile_bodies import PaymentBody
from tallyman.api.customer_bodies import AddressBody, CurrencyCode, ExternalKey, UsageAttribution
from tallyman.api.invoice_line_bodies import ClosedPeriod, InvoiceLineAnswer, TotalsAnswer
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.party_bodies import AppsBody, PartyBody, apps_of
from tallyman.api.wire import NO_NUL, Answer, Body, Description, DurationText, Name, Time, Ulid
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice, IssueSeverity
from tallyman.domain.invoice_state import is_mutable

Status = Literal[
    "gathering", "draft", "issuing", "issued", "payment_processing", "overdue", "paid",
    "uncollectible", "voided", "delete", "deleted",
]  # fmt: skip


ReferenceText = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]


class SimulateInvoiceRequest(Body):
    """What is to be shown of what is not billed yet."""

    currency: Annotated[
        CurrencyCode | None,
        Field(description="Needed by a customer who owes in several."),
    ] = None


class VoidInvoiceRequest(Body):
    """What becomes of a void invoice's lines: `discard` forgives them, `pending` bills them again."""

    action: Literal["discard", "pending"] | None = None


class PaymentStatusRequest(Body):
    """What became of a payment that is collected elsewhere."""

    trigger: Literal[
        "paid", "payment_failed", "payment_uncollectible", "payment_overdue", "action_required"
    ]


class SynchronizedRequest(Body):
    """What an invoice and its payment are called where they are invoiced outside."""

    invoicing_id: ReferenceText | None = None
    payment_id: ReferenceText | None = None
    sent_to_customer_at: Time | None = None


class InvoiceLinkRequest(Body):
    """How long the link is good for."""

    expires_after: DurationText | None = None


class InvoiceLinkAnswer(Answer):
    """A link for whoever has no key; it shows this invoice and nothing else."""

    path: str
    expires_at: Time


class InvoiceCustomer(Answer):
    """The customer as it was when the invoice was made."""

    id: Ulid
    key: ExternalKey
    name: Name
    usage_attribution: UsageAttribution | None = None
    billing_address: AddressBody | None = None

    @classmethod
    def of(cls, customer: Customer) -> Self:
        """The customer on the wire."""
        address, subjects = customer.billing_address, customer.subject_keys
        return cls(
            id=customer.id,
            key=customer.key,
            name=customer.name,
            usage_attribution=UsageAttribution(subject_keys=list(subjects)) if subjects else None,
            billing_address=None if address is None else AddressBody.of(address),
        )


class ActionAnswer(Answer):
    """Where an action leads, if all goes well."""

    resulting_state: str


class ActionsAnswer(Answer):
    """The actions that can be taken now."""

    advance: ActionAnswer | None = None
    approve: ActionAnswer | None = None
    delete: ActionAnswer | None = None
    retry: ActionAnswer | None = None
    snapshot_quantities: ActionAnswer | None = None


class StatusDetails(Answer):
    """Where the invoice stands; `immutable` is whether it can no longer be edited."""

    immutable: bool
    failed: bool
    extended_status: str
    available_actions: ActionsAnswer


class IssueAnswer(Answer):
    """What is wrong; a critical issue keeps the invoice a draft."""

    code: str
    message: str
    severity: IssueSeverity
    field: str | None = None


class ProfileReference(Answer):
    """A billing profile, by its id."""

    id: Ulid


class InvoiceInvoicing(Answer):
    """How the draft becomes an invoice."""

    auto_advance: bool
    draft_period: str
    due_after: str


class InvoiceWorkflow(Answer):
    """The part of the profile's workflow that an invoice keeps."""

    invoicing: InvoiceInvoicing
    payment: PaymentBody


class WorkflowSettings(Answer):
    """The workflow as it was when the invoice was made."""

    apps: AppsBody
    source_billing_profile: ProfileReference | None = None
    workflow: InvoiceWorkflow

    @classmethod
    def of(cls, invoice: Invoice) -> Self:
        """The settings on the wire."""
        kept, profile = invoice.workflow, invoice.billing_profile_id
        return cls(
            apps=apps_of(invoice.app),
            source_billing_profile=None if profile is None else ProfileReference(id=profile),
            workflow=InvoiceWorkflow(
                invoicing=InvoiceInvoicing(
                    auto_advance=kept.auto_advance,
                    draft_period=str(kept.draft_period),
                    due_after=str(kept.due_after),
                ),
                payment=PaymentBody(
                    collection_method=kept.collection_method, due_after=str(kept.due_after)
                ),
            ),
        )


class ExternalReferences(Answer):
    """The invoice in other systems."""

    invoicing_id: str | None = None
    payment_id: str | None = None


class InvoiceAnswer(Answer):
    """An invoice. `watermark` is until when events were stored that it was counted from."""

    id: Ulid
    type: Literal["standard"]
    number: str
    description: Description | None = None
    labels: dict[str, str] | None = None
    created_at: Time
    updated_at: Time
    deleted_at: Time | None = None
    currency: CurrencyCode
    supplier: PartyBody
    customer: InvoiceCustomer
    status: Status
    status_details: StatusDetails
    service_period: ClosedPeriod
    totals: TotalsAnswer
    validation_issues: list[IssueAnswer] | None = None
    external_references: ExternalReferences | None = None
    issued_at: Time | None = None
    draft_until: Time | None = None
    quantity_snapshotted_at: Time | None = None
    collection_at: Time | None = None
    due_at: Time | None = None
    sent_to_customer_at: Time | None = None
    paid_at: Time | None = None
    voided_at: Time | None = None
    watermark: Time | None = None
    workflow: WorkflowSettings
    lines: list[InvoiceLineAnswer]

    @classmethod
    def of(cls, invoice: Invoice, now: datetime) -> Self:
        """The invoice on the wire, with what can be done at the moment."""
        times: dict[str, Any] = {name: getattr(invoice, name) for name in _TIMES}
        return cls(
            id=invoice.id,
            type="standard",
            number=invoice.number,
            description=invoice.description,
            labels=invoice.labels,
            currency=invoice.currency,
            supplier=PartyBody.of(invoice.supplier),
            customer=InvoiceCustomer.of(invoice.customer),
            status=invoice.state.status,
            status_details=_details(invoice, now),
            service_period=ClosedPeriod.of(invoice.service_period),
            totals=TotalsAnswer.of(invoice.totals),
            validation_issues=_issues(invoice) or None,
            external_references=_references(invoice),
            workflow=WorkflowSettings.of(invoice),
            lines=[InvoiceLineAnswer.of(line, invoice) for line in invoice.lines],
            **times,
        )


class InvoicePage(Answer):
    """A page of invoices."""

    data: list[InvoiceAnswer]
    meta: PaginatedMeta


_TIMES = (
    "created_at", "updated_at", "deleted_at", "issued_at", "draft_until",
    "quantity_snapshotted_at", "collection_at", "due_at", "sent_to_customer_at", "paid_at",
    "voided_at", "watermark",
)  # fmt: skip


def _details(invoice: Invoice, now: datetime) -> StatusDetails:
    actions = invoice.available_actions_at(now)
    return StatusDetails(
        immutable=not is_mutable(invoice.state),
        failed=invoice.state.is_failed,
        extended_status=str(invoice.state),
        available_actions=ActionsAnswer(
            **{
                str(action): ActionAnswer(resulting_state=str(end))
                for action, end in actions.items()
            }
        ),
    )


def _issues(invoice: Invoice) -> list[IssueAnswer]:
    return [
        IssueAnswer(
            code=issue.code, message=issue.message, severity=issue.severity, field=issue.field
        )
        for issue in invoice.validation_issues
    ]


def _references(invoice: Invoice) -> ExternalReferences | None:
    if invoice.external_invoicing_id is None and invoice.external_payment_id is None:
        return None
    return ExternalReferences(
        invoicing_id=invoice.external_invoicing_id, payment_id=invoice.external_payment_id
    )
