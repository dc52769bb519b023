"""What is kept, as a catalogue's file has it: references by key, and nothing that is not there.

It does not write YAML: see `dump.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tallyman.api.wire import write_time
from tallyman.domain.customer import Customer
from tallyman.domain.feature import Feature
from tallyman.domain.feature_document import write_filters, write_unit_cost
from tallyman.domain.meter import Meter
from tallyman.domain.plan import Plan
from tallyman.domain.plan_document import Document, write_phases
from tallyman.domain.shown_price import PER_MILLION, both_prices, unit_prices
from tallyman.domain.subscription import Subscription

MILLION = "per million"


def meter_document(meter: Meter) -> Document:
    """The meter."""
    return _present(
        key=meter.key,
        name=meter.name,
        description=meter.description,
        labels=dict(meter.labels),
        aggregation=str(meter.aggregation),
        event_type=meter.event_type,
        value_property=meter.value_property,
        dimensions=dict(meter.dimensions),
        events_from=meter.events_from and write_time(meter.events_from),
    )


def feature_document(feature: Feature, meter_keys: Mapping[str, str]) -> Document:
    """The feature, with its meter by key."""
    meter: Any = None
    if feature.meter is not None:
        meter = meter_keys.get(feature.meter.id, feature.meter.id)
        if filters := write_filters(feature.meter.filters):
            meter = {"key": meter, "filters": filters}
    return _present(
        key=feature.key,
        name=feature.name,
        description=feature.description,
        labels=dict(feature.labels),
        meter=meter,
        unit_cost=feature.unit_cost and write_unit_cost(feature.unit_cost),
    )


def plan_document(plan: Plan) -> Document:
    """What the plan says, without its version and times; a rate card's feature is its key."""
    phases = write_phases(plan.phases)
    for phase in phases:
        for card in phase["rate_cards"]:
            if "feature" in card:
                card["feature"] = card["key"]
    return _present(
        key=plan.key,
        name=plan.name,
        description=plan.description,
        labels=dict(plan.labels),
        currency=plan.currency,
        billing_cadence=str(plan.billing_cadence),
        pro_rating_enabled=None if plan.pro_rating_enabled else False,
        settlement_mode=plan.settlement_mode,
        phases=phases,
    )


def customer_document(customer: Customer) -> Document:
    """The customer."""
    address = customer.billing_address
    return _present(
        key=customer.key,
        name=customer.name,
        description=customer.description,
        labels=dict(customer.labels),
        usage_attribution=_present(subject_keys=list(customer.subject_keys)),
        primary_email=customer.primary_email,
        currency=customer.currency,
        billing_address=_present(**asdict(address)) if address is not None else None,
    )


def subscription_document(
    subscription: Subscription, customer_key: str, *, in_force: bool
) -> Document:
    """The subscription; by the plan's key alone where it is on the version in force."""
    version = {"key": subscription.plan_key, "version": subscription.plan_version}
    return _present(
        customer=customer_key,
        plan=subscription.plan_key if in_force else version,
        labels=dict(subscription.labels),
        active_from=write_time(subscription.active_from),
        billing_anchor=None
        if subscription.billing_anchor == subscription.active_from
        else write_time(subscription.billing_anchor),
    )


def difference(before: Document, after: Document) -> list[str]:
    """One line for each value that is no more (-) or new (+), in the order of the documents."""
    old, new = dict(_flat(before)), dict(_flat(after))
    lines = []
    for path in dict.fromkeys((*old, *new)):
        if old.get(path) == new.get(path):
            continue
        for mark, values in (("-", old), ("+", new)):
            if path in values:
                lines.append(f"{mark} {path}: {values[path]}")
    return lines


def million_of(amount: str, card: Document) -> str | None:
    """How a unit price of the card reads per million units of the meter; None where it does not."""
    return both_prices(amount, card.get("unit_config")).get(PER_MILLION)


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        shown = value
        if "price" in value and "key" in value:
            shown = dict(value, price=_priced(value))
        for name, member in shown.items():
            yield from _flat(member, f"{at}.{name}" if at else name)
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for index, member in enumerate(value):
            yield from _flat(member, f"{at}[{member.get('key', index)}]")
    else:
        yield at, _as_yaml(value)


def _as_yaml(value: Any) -> str:
    """The value as the catalogue's file has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case list():
            return f"[{', '.join(_as_yaml(one) for one in value)}]"
    return str(value)


def _priced(card: Document) -> Document:
    """The price with each unit price said per million too."""
    price = dict(card["price"], tiers=[dict(tier) for tier in card["price"].get("tiers", ())])
    if not price["tiers"]:
        del price["tiers"]
    for tier in price.get("tiers", ()):
        if "unit_price" in tier:
            tier["unit_price"] = dict(tier["unit_price"])
    for _, unit_price in unit_prices(price):
        if million := million_of(unit_price["amount"], card):
            unit_price["amount"] += f" ({million} {MILLION})"
    return price


def keys(entities: Iterable[Any]) -> dict[str, str]:
    """The key of each by its id."""
    return {one.id: one.key for one in entities}


def _present(**members: Any) -> Document:
    return {name: value for name, value in members.items() if value not in (None, {}, [], "")}
