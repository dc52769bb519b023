"""Puts the subscriptions of a catalogue's file in force: a customer is on the plan that it says.

It does not know when what is billed: see `domain/subscription_change.py`.
"""

from dataclasses import replace
from typing import Any

from tallyman.api.catalogue.change import Change, about, changed, made, unchanged
from tallyman.api.catalogue.documents import subscription_document
from tallyman.api.catalogue.entries import PlanVersion, SubscriptionEntry, checked
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.catalogue.yaml_file import Path, YamlFile
from tallyman.domain.plan import Plan
from tallyman.domain.subscription import Subscription, SubscriptionStatus
from tallyman.domain.subscription_change import EditTiming
from tallyman.store.new_subscription import NewSubscription, PlanReference


async def apply_subscription(
    shelf: Shelf, file: YamlFile, at: Path, entry: dict[str, Any]
) -> Change:
    """Begin a subscription, or change the one that the customer has to another plan or version."""
    body = checked(file, at, entry, SubscriptionEntry)
    customer = await shelf.customers.get(shelf.namespace, body.customer)
    plan = await _plan(shelf, body)
    found = await shelf.subscriptions.of_customers(shelf.namespace, [customer.id])
    going = [
        one
        for one in found[customer.id]
        if one.status_at(shelf.now) is not SubscriptionStatus.INACTIVE
    ]
    new = NewSubscription(
        customer=customer.id,
        plan=PlanReference(id=plan.id),
        active_from=body.active_from,
        billing_anchor=body.billing_anchor,
        labels=body.labels,
    )
    if not going:
        begun = await shelf.subscriptions.create(shelf.namespace, new, shelf.now, by=shelf.by)
        document = subscription_document(begun, body.customer, in_force=False)
        return about(made("subscription", body.customer, document), customer.id)
    last = going[-1]
    if last.plan_id == plan.id:
        return await _keep(shelf, last, body.customer, customer.id)
    if last.status_at(shelf.now) is not SubscriptionStatus.ACTIVE:
        reason = (
            f"the subscription of {body.customer} to {last.plan_key} version {last.plan_version} is "
            f"{last.status_at(shelf.now)}: settle that first"
        )
        raise file.error((*at, "plan"), reason)
    new = replace(new, active_from=None, billing_anchor=None)
    ended, begun = await shelf.subscriptions.change(
        shelf.namespace, last.id, new, EditTiming(body.timing), shelf.now, by=shelf.by
    )
    change = changed("subscription", body.customer, _plan_of(last), _plan_of(begun))
    note = f"from {ended.active_to:%Y-%m-%d %H:%M}"
    return about(change, customer.id, note)


async def _keep(shelf: Shelf, last: Subscription, key: str, customer_id: str) -> Change:
    if last.status_at(shelf.now) is not SubscriptionStatus.CANCELED:
        return unchanged("subscription", key)
    await shelf.subscriptions.unschedule_cancelation(
        shelf.namespace, last.id, shelf.now, by=shelf.by
    )
    before = {"active_to": f"{last.active_to:%Y-%m-%d %H:%M}"}
    return about(changed("subscription", key, before, {}), customer_id, "goes on")


async def _plan(shelf: Shelf, body: SubscriptionEntry) -> Plan:
    if isinstance(body.plan, PlanVersion):
        return await shelf.plans.version(shelf.namespace, body.plan.key, body.plan.version)
    return await shelf.plans.active(shelf.namespace, body.plan, shelf.now)


def _plan_of(subscription: Subscription) -> dict[str, Any]:
    return {"plan": f"{subscription.plan_key} version {subscription.plan_version}"}
