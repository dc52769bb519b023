"""What is asked for when a subscription begins, and the version of a plan that it means.

How it is kept is `subscriptions.py`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tallyman.domain.customer import Customer
from tallyman.domain.plan import Plan, PlanStatus, SettlementMode
from tallyman.errors import InvalidInput, InvalidParameter, named_by
from tallyman.store.plans import PlanStore


@dataclass(frozen=True)
class PlanReference:
    """A version by its id, or by key and number; the one in force, where there is no number."""

    id: str | None = None
    key: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class NewSubscription:
    """What is asked for: a customer, by id or key, on a plan. Without a start it is now.

    `customer_field` is where the customer was named, for whoever is told that there is none.
    """

    customer: str
    plan: PlanReference
    active_from: datetime | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None
    labels: Mapping[str, str] | None = None
    customer_field: str = "customer"


async def plan_for(
    plans: PlanStore,
    namespace: str,
    reference: PlanReference,
    customer: Customer,
    begin: datetime,
    now: datetime,
) -> Plan:
    """The version that the reference means; it must be in force now, or when it is to begin."""
    if reference.id is not None:
        with named_by("plan.id"):
            plan = await plans.get(namespace, reference.id)
    elif reference.version is not None:
        with named_by("plan.version"):
            plan = await plans.version(namespace, reference.key or "", reference.version)
    else:
        with named_by("plan.key"):
            plan = await plans.active(namespace, reference.key or "", now)
    if PlanStatus.ACTIVE not in (plan.status_at(now), plan.status_at(max(begin, now))):
        reason = f"version {plan.version} of {plan.key} is {plan.status_at(now)}, not active"
        raise InvalidInput(
            f"plan {reason}", [InvalidParameter("plan", "plan_invalid_status", reason)]
        )
    if customer.currency is not None and customer.currency != plan.currency:
        reason = f"is in {plan.currency}, and the customer pays in {customer.currency}"
        raise InvalidInput(f"plan {reason}", [InvalidParameter("plan", "invalid", reason)])
    return plan
