"""The bodies of the plan routes, as OpenMeter's v3 API has them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from tallyman.api.customer_bodies import CurrencyCode
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.rate_card_bodies import RateCardBody, rate_card_of
from tallyman.api.wire import (
    Answer,
    Body,
    Description,
    DurationText,
    Labels,
    Name,
    Resource,
    ResourceKey,
    Time,
)
from tallyman.domain.plan import Plan, PlanStatus
from tallyman.domain.plan_document import read_phases, write_phases
from tallyman.domain.plan_phase import PlanPhase

MOST_PHASES = 100
MOST_RATE_CARDS = 1000


class PlanPhaseBody(Body):
    """A phase: its rate cards, and how long they are in force; the last has no duration."""

    key: ResourceKey
    name: Name
    description: Description | None = None
    labels: Labels | None = None
    duration: DurationText | None = None
    rate_cards: Annotated[list[RateCardBody], Field(max_length=MOST_RATE_CARDS)]


class UpsertPlanRequest(Body):
    """A draft put anew: what is absent is no more. Key, currency and billing cadence stay."""

    name: Name
    description: Description | None = None
    labels: Labels | None = None
    pro_rating_enabled: bool | None = None
    phases: Annotated[list[PlanPhaseBody], Field(max_length=MOST_PHASES)]

    def plan_phases(self) -> tuple[PlanPhase, ...]:
        """The phases, not yet checked against the rules of plans."""
        return read_phases(phase.model_dump(exclude_unset=True) for phase in self.phases)


class CreatePlanRequest(UpsertPlanRequest):
    """A new draft; the next version, if there is a plan with the key."""

    key: ResourceKey
    currency: CurrencyCode
    billing_cadence: DurationText
    settlement_mode: Literal["credit_then_invoice", "credit_only"] | None = None


class PlanValidationError(Answer):
    """A rule that a draft breaks; it cannot be published as long as there is one."""

    code: str
    message: str
    field: str


class PlanWarning(Answer):
    """What is no error, and may not be meant: a rate card that makes a loss at today's prices."""

    code: Literal["rate_card_makes_a_loss"] = "rate_card_makes_a_loss"
    message: str
    rate_card: str


class PlanAnswer(Resource):
    """A version of a plan."""

    key: ResourceKey
    version: Annotated[int, Field(ge=1)]
    currency: str
    billing_cadence: str
    pro_rating_enabled: bool
    effective_from: Time | None = None
    effective_to: Time | None = None
    status: PlanStatus
    phases: list[PlanPhaseBody]
    settlement_mode: Literal["credit_then_invoice", "credit_only"] | None = None
    validation_errors: list[PlanValidationError] | None = None

    @classmethod
    def of(cls, plan: Plan, now: datetime) -> Self:
        """The version on the wire, with its status of now."""
        status = plan.status_at(now)
        errors = [
            PlanValidationError(code=rule.code, message=rule.message, field=rule.field)
            for rule in (plan.broken_rules() if status is PlanStatus.DRAFT else ())
        ]
        given = {name: value for name, value in vars(plan).items() if name != "namespace"}
        return cls.model_validate(
            {
                **given,
                "billing_cadence": str(plan.billing_cadence),
                "status": status,
                "phases": _phases(plan.phases),
                "validation_errors": errors or None,
            }
        )


class PublishedPlanAnswer(PlanAnswer):
    """A version that was just put in force."""

    warnings: list[PlanWarning] | None = None

    @classmethod
    def published(cls, plan: Plan, now: datetime, warnings: list[PlanWarning]) -> Self:
        """The version on the wire."""
        return cls.of(plan, now).model_copy(update={"warnings": warnings or None})


class PlanPage(Answer):
    """A page of versions of plans."""

    data: list[PlanAnswer]
    meta: PaginatedMeta


def _phases(phases: Sequence[PlanPhase]) -> list[PlanPhaseBody]:
    return [
        PlanPhaseBody.model_validate(
            document | {"rate_cards": [rate_card_of(card) for card in document["rate_cards"]]}
        )
        for document in write_phases(phases)
    ]
