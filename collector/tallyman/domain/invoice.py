"""An invoice: lines, totals, and where it stands.

It does not know the lifecycle (see `invoice_state.py`) and does not count (billing does).
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from tallyman.domain.billing_profile import App, Supplier, Workflow
from tallyman.domain.content_id import content_id
from tallyman.domain.counting import Counting
from tallyman.domain.customer import Customer
from tallyman.domain.invoice_line import InvoiceLine, Totals, sum_totals
from tallyman.domain.invoice_state import (
    Facts,
    InvoiceState,
    Trigger,
    available_actions,
    following,
    move,
)
from tallyman.domain.period import Period


class IssueSeverity(StrEnum):
    """A critical issue keeps the invoice a draft."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class ValidationIssue:
    """What is wrong with an invoice, or strange; `field` is a path such as `lines[0].price`."""

    code: str
    message: str
    severity: IssueSeverity = IssueSeverity.CRITICAL
    field: str | None = None


@dataclass(frozen=True)
class Invoice:
    """Supplier, customer, workflow and app are as they were when it was made.

    `watermark` is the time up to which events had been stored when it was counted: counted again
    from those, by what `counting` says, it is the same. `collection_at` is until when late events
    are waited for. `invoice_at` is when its lines were due, and `version` above 1 where an invoice
    of that time is there already. `revision` counts the changes of what is kept.
    """

    id: str
    namespace: str
    number: str
    currency: str
    customer: Customer
    supplier: Supplier
    workflow: Workflow
    state: InvoiceState
    service_period: Period
    created_at: datetime
    updated_at: datetime
    lines: tuple[InvoiceLine, ...] = ()
    validation_issues: tuple[ValidationIssue, ...] = ()
    collection_at: datetime | None = None
    quantity_snapshotted_at: datetime | None = None
    watermark: datetime | None = None
    draft_until: datetime | None = None
    issued_at: datetime | None = None
    due_at: datetime | None = None
    sent_to_customer_at: datetime | None = None
    paid_at: datetime | None = None
    voided_at: datetime | None = None
    deleted_at: datetime | None = None
    billing_profile_id: str | None = None
    external_invoicing_id: str | None = None
    external_payment_id: str | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    counting: Counting | None = None
    invoice_at: datetime | None = None
    version: int = 1
    revision: int = 0
    app: App = App.SANDBOX

    @cached_property
    def totals(self) -> Totals:
        """The sums of the lines'."""
        return sum_totals(self.lines)

    def facts_at(self, now: datetime) -> Facts:
        """What the way of the invoice depends on; times not yet set are what they would be now."""
        wait, review = self.workflow.collection_interval, self.workflow.draft_period
        return Facts(
            now=now,
            auto_advance=self.workflow.auto_advance,
            collection_at=self._collected_at or wait.after(self.service_period.to),
            draft_until=self.draft_until or review.after(now),
            has_critical_issues=any(
                issue.severity is IssueSeverity.CRITICAL for issue in self.validation_issues
            ),
            waits_for_app=self.app is App.STRIPE,
            has_nothing_to_pay=not self.totals.total and self.app is not App.STRIPE,
            waits_in_draft=self.workflow.waits_in_draft,
            waits_to_issue=self.workflow.waits_to_issue,
        )

    @property
    def _collected_at(self) -> datetime | None:
        """Until when late events are waited for: not any longer, once it is counted."""
        return self.quantity_snapshotted_at or self.collection_at

    @property
    def overdue_at(self) -> datetime | None:
        """From when on it is overdue, if it is not paid; never, if the customer owes nothing."""
        return self.due_at if self.totals.total > 0 else None

    @property
    def wakes_at(self) -> datetime | None:
        """From when on it may go on by itself; None if someone must act first."""
        match self.state:
            case InvoiceState.DRAFT_WAITING_FOR_COLLECTION:
                return self.collection_at or self.updated_at
            case InvoiceState.DRAFT_WAITING_AUTO_APPROVAL:
                return self.draft_until or self.updated_at
            case InvoiceState.PAYMENT_PENDING | InvoiceState.PAYMENT_AUTHORIZED:
                return self.overdue_at
        hopeful = Facts(
            now=self.updated_at,
            collection_at=self.updated_at,
            waits_for_app=self.app is App.STRIPE,
            waits_in_draft=self.workflow.waits_in_draft,
            waits_to_issue=self.workflow.waits_to_issue,
        )
        goes_on = following(self.state, Trigger.ADVANCE, hopeful) is not None
        return self.updated_at if goes_on else None

    def available_actions_at(self, now: datetime) -> dict[Trigger, InvoiceState]:
        """Each action that can be taken, with the state that it ends in if all goes well."""
        return available_actions(self.state, self.facts_at(now))


def issues_of(invoice: Invoice) -> tuple[ValidationIssue, ...]:
    """What is wrong with the invoice by itself, or strange."""
    issues = [
        ValidationIssue(
            "invoice_line_currency_mismatch",
            f"the line is in {line.currency} and the invoice in {invoice.currency}",
            field=f"lines[{index}].currency",
        )
        for index, line in enumerate(invoice.lines)
        if line.currency != invoice.currency
    ]
    issues += [
        ValidationIssue(
            "invoice_line_negative_quantity",
            f"the meter comes to {line.raw_quantity}: it is billed as nothing",
            IssueSeverity.WARNING,
            f"lines[{index}].usage_quantity_detail.raw_quantity",
        )
        for index, line in enumerate(invoice.lines)
        if line.corrects is None and line.raw_quantity is not None and line.raw_quantity < 0
    ]
    owed = invoice.totals.total
    if owed < 0:
        issues.append(
            ValidationIssue(
                "invoice_total_negative",
                f"the customer gets {-owed} {invoice.currency} back: nothing pays it out by itself",
                IssueSeverity.WARNING,
                "totals.total",
            )
        )
    return tuple(issues)


def invoice_id(customer_id: str, currency: str, invoice_at: datetime, version: int = 1) -> str:
    """The id of what a customer owes at a time, so that two runs of billing make one invoice.

    The version is counted up where an invoice of that time was deleted or voided.
    """
    return content_id(
        invoice_at, "invoice", customer_id, currency, invoice_at.isoformat(), str(version)
    )


def act(invoice: Invoice, trigger: Trigger, now: datetime) -> Invoice:
    """One step of the lifecycle, with the times that the new state begins.

    Raises:
        InvoiceCannotAdvance: nothing follows by itself, or not yet.
        InvoiceActionNotAvailable: the state takes no such trigger.
    """
    moved = replace(
        invoice, state=move(invoice.state, trigger, invoice.facts_at(now)), updated_at=now
    )
    match moved.state:
        case InvoiceState.DRAFT_WAITING_FOR_COLLECTION if moved.collection_at is None:
            wait = moved.workflow.collection_interval
            return replace(moved, collection_at=wait.after(moved.service_period.to))
        case InvoiceState.DRAFT_WAITING_AUTO_APPROVAL if moved.draft_until is None:
            return replace(moved, draft_until=moved.workflow.draft_period.after(now))
        case InvoiceState.ISSUED:
            return replace(moved, issued_at=now, due_at=moved.workflow.due_after.after(now))
        case InvoiceState.PAID:
            return replace(moved, paid_at=now)
        case InvoiceState.VOIDED:
            return replace(moved, voided_at=now)
        case InvoiceState.DELETED:
            return replace(moved, deleted_at=now)
    return moved
