"""The bodies of the billing profile routes, as OpenMeter's v3 API has them."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field

from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.party_bodies import AppsBody, PartyBody, apps_of
from tallyman.api.wire import (
    Answer,
    Body,
    Description,
    DurationText,
    Labels,
    Name,
    Resource,
    Time,
    by_type,
    tagged,
)
from tallyman.domain.billing_profile import BillingProfile, CollectionMethod, Workflow
from tallyman.domain.duration import Cadence, parse_duration
from tallyman.domain.service_period import EndProration
from tallyman.errors import InvalidInput, InvalidParameter

DEFAULTS = Workflow()


class RecurringPeriodBody(Body):
    """Periods one after the other: one begins at the anchor."""

    anchor: Time
    interval: DurationText


class SubscriptionAlignmentBody(Body):
    """Invoices are made when a subscription's periods end."""

    type: Literal["subscription"]


class AnchoredAlignmentBody(Body):
    """Invoices are made at dates of their own."""

    type: Literal["anchored"]
    recurring_period: RecurringPeriodBody


AlignmentBody: TypeAlias = Annotated[
    Annotated[SubscriptionAlignmentBody, tagged("subscription")]
    | Annotated[AnchoredAlignmentBody, tagged("anchored")],
    by_type("subscription", "anchored"),
]


class CollectionBody(Body):
    """When usage is collected; `interval` is how long late events are waited for."""

    alignment: AlignmentBody | None = None
    interval: DurationText | None = None


class InvoicingBody(Body):
    """How a draft becomes an invoice."""

    auto_advance: bool | None = None
    draft_period: DurationText | None = None
    progressive_billing: bool | None = None
    subscription_end_proration_mode: EndProration | None = None


class PaymentBody(Body):
    """How it is paid; `due_after` is of invoices that are sent."""

    collection_method: CollectionMethod
    due_after: DurationText | None = None


class TaxBody(Body):
    """Whether there are taxes."""

    enabled: bool | None = None
    enforced: bool | None = None


class WorkflowBody(Body):
    """From the end of a period to the payment; what is absent is the default."""

    collection: CollectionBody | None = None
    invoicing: InvoicingBody | None = None
    payment: PaymentBody | None = None
    tax: TaxBody | None = None

    def workflow(self) -> Workflow:
        """The workflow that it says.

        Raises:
            InvalidInput: it waits for dates that no calendar has.
        """
        collection = self.collection or CollectionBody()
        invoicing = self.invoicing or InvoicingBody()
        tax = self.tax or TaxBody()
        payment = self.payment
        method = DEFAULTS.collection_method if payment is None else payment.collection_method
        given: dict[str, Any] = {
            "collection_interval": _duration(collection.interval),
            "auto_advance": invoicing.auto_advance,
            "draft_period": _duration(invoicing.draft_period),
            "progressive_billing": invoicing.progressive_billing,
            "end_proration": invoicing.subscription_end_proration_mode,
            "collection_method": method,
            "due_after": None if payment is None else _duration(payment.due_after),
            "tax_enabled": tax.enabled,
            "tax_enforced": tax.enforced,
            "anchored": _anchored(collection.alignment),
        }
        return Workflow(**{name: value for name, value in given.items() if value is not None})

    @classmethod
    def of(cls, workflow: Workflow) -> Self:
        """The workflow on the wire, with everything that it has by default."""
        anchored = workflow.anchored
        return cls(
            collection=CollectionBody(
                alignment=SubscriptionAlignmentBody(type="subscription")
                if anchored is None
                else AnchoredAlignmentBody(
                    type="anchored",
                    recurring_period=RecurringPeriodBody(
                        anchor=anchored.anchor, interval=str(anchored.step)
                    ),
                ),
                interval=str(workflow.collection_interval),
            ),
            invoicing=InvoicingBody(
                auto_advance=workflow.auto_advance,
                draft_period=str(workflow.draft_period),
                progressive_billing=workflow.progressive_billing,
                subscription_end_proration_mode=workflow.end_proration,
            ),
            payment=PaymentBody(
                collection_method=workflow.collection_method, due_after=str(workflow.due_after)
            ),
            tax=TaxBody(enabled=workflow.tax_enabled, enforced=workflow.tax_enforced),
        )


class UpsertBillingProfileRequest(Body):
    """A profile put anew."""

    name: Name
    description: Description | None = None
    labels: Labels | None = None
    supplier: PartyBody
    workflow: WorkflowBody
    default: bool


class CreateBillingProfileRequest(UpsertBillingProfileRequest):
    """A new profile. `apps` stay as they are then; without them it is the sandbox, for all three."""

    apps: AppsBody | None = None


class BillingProfileAnswer(Resource):
    """Who sends invoices, and how they go from a draft to paid."""

    supplier: PartyBody
    workflow: WorkflowBody
    apps: AppsBody
    default: Annotated[bool, Field(description="Of customers who have no other profile.")]

    @classmethod
    def of(cls, profile: BillingProfile) -> Self:
        """The profile on the wire."""
        return cls(
            id=profile.id,
            name=profile.name,
            description=profile.description,
            labels=profile.labels,
            created_at=profile.created_at,
            updated_at=profile.updated_at,
            deleted_at=profile.deleted_at,
            supplier=PartyBody.of(profile.supplier),
            workflow=WorkflowBody.of(profile.workflow),
            apps=apps_of(profile.app),
            default=profile.is_default,
        )


class BillingProfilePage(Answer):
    """A page of billing profiles."""

    data: list[BillingProfileAnswer]
    meta: PaginatedMeta


def _duration(text: str | None) -> object:
    return None if text is None else parse_duration(text)


def _anchored(alignment: AlignmentBody | None) -> Cadence | None:
    if not isinstance(alignment, AnchoredAlignmentBody):
        return None
    recurring = alignment.recurring_period
    step = parse_duration(recurring.interval)
    if not step.at_least_an_hour:
        at = "workflow.collection.alignment.recurring_period.interval"
        reason = "must be an hour or longer"
        raise InvalidInput(f"{at} {reason}", [InvalidParameter(at, "invalid", reason)])
    return Cadence(recurring.anchor, step)
