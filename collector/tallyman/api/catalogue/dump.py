"""Writes what is kept as a catalogue's file, which put in force again changes nothing.

What each thing looks like is `documents.py`'s.
"""

import re
from typing import Any, Final

import yaml

from tallyman.api.catalogue.documents import (
    customer_document,
    feature_document,
    meter_document,
    million_of,
    plan_document,
    subscription_document,
)
from tallyman.api.catalogue.shelf import Shelf
from tallyman.domain.builtin_meters import BUILTIN_METERS
from tallyman.domain.plan import PlanStatus
from tallyman.domain.plan_document import Document
from tallyman.domain.shown_price import unit_prices
from tallyman.domain.subscription import SubscriptionStatus

HEAD: Final = "# Amounts of unit prices are per single unit, such as a token.\n"
# Stands before a comment until the text is written; no amount has it.
_COMMENT: Final = "\ue000"


async def dump(shelf: Shelf) -> str:
    """The file: meters but the built-in ones, features, plans in force, customers, subscriptions."""
    async with shelf.database.together():
        catalogue = {
            "meters": await _meters(shelf),
            "features": await _features(shelf),
            "plans": await _plans(shelf),
            "customers": [
                customer_document(one) for one in await shelf.customers.every(shelf.namespace)
            ],
            "subscriptions": await _subscriptions(shelf),
        }
    present = {kind: entries for kind, entries in catalogue.items() if entries}
    return HEAD + (_written(present) if present else "")


async def _meters(shelf: Shelf) -> list[Document]:
    built_in = {meter.key for meter in BUILTIN_METERS}
    meters, _ = await shelf.meters.page(shelf.namespace, limit=None)
    return [meter_document(one) for one in meters if one.key not in built_in]


async def _features(shelf: Shelf) -> list[Document]:
    keys = await shelf.meter_keys()
    features, _ = await shelf.features.list(shelf.namespace, limit=None)
    return [feature_document(one, keys) for one in features]


async def _plans(shelf: Shelf) -> list[Document]:
    """The newest version of each plan that is in force or to be."""
    newest = {}
    for plan in await shelf.versions():
        status = plan.status_at(shelf.now)
        if status in (PlanStatus.ACTIVE, PlanStatus.SCHEDULED):
            newest[plan.key] = plan
    found = []
    for plan in newest.values():
        document = plan_document(plan)
        if plan.status_at(shelf.now) is PlanStatus.SCHEDULED and plan.effective_from is not None:
            document["effective_from"] = plan.effective_from.isoformat().replace("+00:00", "Z")
        for phase in document["phases"]:
            for card in phase["rate_cards"]:
                _comment(card)
        found.append(document)
    return found


async def _subscriptions(shelf: Shelf) -> list[Document]:
    """The one of each customer that is served or to come, the last one where there are two."""
    customers = {one.id: one.key for one in await shelf.customers.every(shelf.namespace)}
    in_force = {
        plan.id for plan in await shelf.versions() if plan.status_at(shelf.now) is PlanStatus.ACTIVE
    }
    last = {
        one.customer_id: one
        for one in await shelf.subscriptions.served_in(shelf.namespace, shelf.now)
        if one.customer_id in customers
        and one.status_at(shelf.now) is not SubscriptionStatus.CANCELED
    }
    return [
        subscription_document(one, customers[customer_id], in_force=one.plan_id in in_force)
        for customer_id, one in last.items()
    ]


def _comment(card: Document) -> None:
    """Say each unit price per million too, behind it."""
    for _, unit_price in unit_prices(card["price"]):
        if million := million_of(unit_price["amount"], card):
            unit_price["amount"] += f"{_COMMENT}{million} per million{_COMMENT}"


def _written(document: dict[str, Any]) -> str:
    text = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, indent=2
    )
    return re.sub(rf"([^\s{_COMMENT}]+){_COMMENT}(.*?){_COMMENT}", r"'\1'  # \2", text)


class _Dumper(yaml.SafeDumper):
    """Numbers that are text are quoted, and a list's items stand under its key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True
