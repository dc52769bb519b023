"""A plan: phases of rate cards, in versions that never change once published.

It does not know the rules that a plan must keep: see `plan_rules.py`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from tallyman.domain.duration import Duration
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.plan_rules import broken_rules
from tallyman.domain.rate_card_rules import BrokenRule, Severity
from tallyman.errors import InvalidParameter, InvalidPlan

SettlementMode = Literal["credit_then_invoice", "credit_only"]


class PlanStatus(StrEnum):
    """Where a version stands, by its effective time."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"
    SCHEDULED = "scheduled"


@dataclass(frozen=True)
class Plan:
    """One version of a plan; in force in [effective_from, effective_to)."""

    id: str
    namespace: str
    key: str
    version: int
    name: str
    currency: str
    billing_cadence: Duration
    phases: tuple[PlanPhase, ...]
    created_at: datetime
    updated_at: datetime
    pro_rating_enabled: bool = True
    settlement_mode: SettlementMode | None = None
    effective_from: datetime | None = None
    effective_to: datetime | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None

    def status_at(self, now: datetime) -> PlanStatus:
        """Draft until it is published, scheduled until it is in force."""
        if self.effective_from is None:
            return PlanStatus.DRAFT
        if self.effective_to is not None and self.effective_to <= now:
            return PlanStatus.ARCHIVED
        return PlanStatus.SCHEDULED if now < self.effective_from else PlanStatus.ACTIVE

    def broken_rules(self) -> tuple[BrokenRule, ...]:
        """Every rule that the plan breaks; a plan is published with none."""
        return broken_rules(self.currency, self.billing_cadence, self.phases)


def check_draft(plan: Plan) -> None:
    """Refuse what not even a draft may hold.

    Raises:
        InvalidPlan: it breaks critical rules; each is named.
    """
    broken = [rule for rule in plan.broken_rules() if rule.severity is Severity.CRITICAL]
    if broken:
        raise InvalidPlan(
            f"{broken[0].field}: {broken[0].message}", [rule.as_parameter() for rule in broken]
        )


def publish(plan: Plan, now: datetime, effective_from: datetime | None = None) -> Plan:
    """Put a draft in force, now unless later.

    The version in force until then is archived as of the new one's `effective_from`.

    Raises:
        InvalidPlan: it is no draft, or breaks rules; each is named.
    """
    refuse_status(plan, now, (PlanStatus.DRAFT,), "published")
    if broken := plan.broken_rules():
        raise InvalidPlan(
            f"plan {plan.key} version {plan.version} cannot be published: {broken[0].message}",
            [rule.as_parameter() for rule in broken],
        )
    return replace(plan, effective_from=max(effective_from or now, now), updated_at=now)


def archive(plan: Plan, now: datetime, effective_to: datetime | None = None) -> Plan:
    """End a version; subscriptions to it go on.

    Raises:
        InvalidPlan: it is not in force, and not to be.
    """
    refuse_status(plan, now, (PlanStatus.ACTIVE, PlanStatus.SCHEDULED), "archived")
    return replace(plan, effective_to=max(effective_to or now, now), updated_at=now)


def refuse_status(plan: Plan, now: datetime, allowed: Collection[PlanStatus], wanted: str) -> None:
    """Refuse what cannot be done to a version where it stands.

    Raises:
        InvalidPlan: its status is not among the allowed ones.
    """
    status = plan.status_at(now)
    if status not in allowed:
        reason = f"version {plan.version} of {plan.key} is {status} and cannot be {wanted}"
        raise InvalidPlan(reason, [InvalidParameter("status", "plan_invalid_status", reason)])
