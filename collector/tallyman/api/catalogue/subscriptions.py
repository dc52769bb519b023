"""Puts the subscriptions of a catalogue's file in force: a customer is on the plan that it says.

A cancellation that was made elsewhere stands, and so does when a subscription began: neither is
taken back because the file does not know of it.

It does not know when what is billed: see `domain/subscription_change.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from tallyman.api.catalogue.change import Change, about, changed, made, unchanged
from tallyman.api.catalogue.documents import subscription_document
from tallyman.api.catalogue.entries import PlanVersion, SubscriptionEntry, checked
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.catalogue.yaml_file import Path, YamlFile
from tallyman.api.wire import write_time
from tallyman.domain.plan import Plan
from tallyman.domain.service_period import whole_milliseconds
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
    over = [one for one in found[customer.id] if one not in going]
    if not going:
        if over and not _begins_later(body, over[-1]):
            return _ended(over[-1], body.customer)
        begun = await shelf.subscriptions.create(shelf.namespace, new, shelf.now, by=shelf.by)
        document = subscription_document(begun, body.customer, in_force=False)
        return about(made("subscription", body.customer, document), customer.id)
    last = going[-1]
    _refuse_fixed(file, at, body, found[customer.id])
    if last.plan_id == plan.id:
        return _keep(shelf, last, body.customer)
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


def _keep(shelf: Shelf, last: Subscription, key: str) -> Change:
    if last.status_at(shelf.now) is not SubscriptionStatus.CANCELED:
        return unchanged("subscription", key)
    warning = (
        f"it is canceled, ends on {last.active_to:%Y-%m-%d %H:%M}, and is left so; to take that back: "
        f"POST /subscriptions/{last.id}/unschedule-cancelation"
    )
    return msgspec.structs.replace(unchanged("subscription", key), warning=warning)


def _begins_later(body: SubscriptionEntry, ended: Subscription) -> bool:
    """Whether the entry means another subscription than the one that has ended."""
    if body.active_from is None or ended.active_to is None:
        return False
    return body.active_from >= ended.active_to


def _ended(last: Subscription, key: str) -> Change:
    warning = (
        f"it ended on {last.active_to:%Y-%m-%d %H:%M}, and is not begun again; if it shall be: give "
        "active_from, from then on"
    )
    return msgspec.structs.replace(unchanged("subscription", key), warning=warning)


def _refuse_fixed(
    file: YamlFile, at: Path, body: SubscriptionEntry, found: Sequence[Subscription]
) -> None:
    """What a subscription began with cannot be changed by the file; one that followed it began later.

    Raises:
        InvalidCatalogue: the file has it otherwise; names the line.
    """
    last = found[-1]
    begun = [one.active_from for one in found]
    if body.active_from is not None and whole_milliseconds(body.active_from) not in begun:
        reason = f"cannot change: it began on {write_time(last.active_from)}"
        raise file.error((*at, "active_from"), reason)
    anchor = body.billing_anchor
    if anchor is not None and whole_milliseconds(anchor) != last.billing_anchor:
        reason = f"cannot change: periods are counted from {write_time(last.billing_anchor)}"
        raise file.error((*at, "billing_anchor"), reason)
    if body.labels is not None and body.labels != last.labels:
        raise file.error((*at, "labels"), f"cannot change: they are {last.labels}")


async def _plan(shelf: Shelf, body: SubscriptionEntry) -> Plan:
    if isinstance(body.plan, PlanVersion):
        return await shelf.plans.version(shelf.namespace, body.plan.key, body.plan.version)
    return await shelf.plans.active(shelf.namespace, body.plan, shelf.now)


def _plan_of(subscription: Subscription) -> dict[str, Any]:
    return {"plan": f"{subscription.plan_key} version {subscription.plan_version}"}
