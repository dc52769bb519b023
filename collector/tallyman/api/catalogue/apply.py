"""Puts a catalogue's file in force, in the transaction of its caller: what is there already stays.

Nothing is deleted because the file does not have it. What the next invoices become is `preview.py`'s.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from tallyman.api.catalogue import documents, entries
from tallyman.api.catalogue.change import Change, about, changed, made, unchanged
from tallyman.api.catalogue.entries import PlanEntry, checked, placed
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.catalogue.subscriptions import apply_subscription
from tallyman.api.catalogue.yaml_file import Path, YamlFile
from tallyman.api.customer_bodies import CreateCustomerRequest
from tallyman.api.feature_bodies import CreateFeatureRequest
from tallyman.api.meter_bodies import CreateMeterRequest
from tallyman.domain.customer import Customer
from tallyman.domain.duration import parse_duration
from tallyman.domain.feature import Feature
from tallyman.domain.meter import Meter
from tallyman.domain.plan import Plan, PlanStatus
from tallyman.errors import Gone, InvalidCatalogue, NotFound, TallymanError
from tallyman.store.customers import CustomerChange
from tallyman.store.meters import MeterChange

_FIXED: Final = ("aggregation", "event_type", "value_property", "events_from")


async def apply_catalogue(shelf: Shelf, file: YamlFile) -> list[Change]:
    """Make and change what the file has, in the order of what needs what.

    Raises:
        InvalidCatalogue: something cannot be; names the line and key. The caller must roll back.
    """
    found = entries.entries_of(file)
    steps: dict[str, Callable[[Shelf, YamlFile, Path, dict[str, Any]], Awaitable[Change]]] = {
        "meters": _meter,
        "features": _feature,
        "plans": _plan,
        "customers": _customer,
        "subscriptions": apply_subscription,
    }
    changes = []
    for kind, step in steps.items():
        for at, entry in found[kind]:
            async with _placing(file, at):
                changes.append(await step(shelf, file, at, entry))
    return changes


@asynccontextmanager
async def _placing(file: YamlFile, at: Path) -> AsyncIterator[None]:
    """An error that the stores raise gets the line of the entry that it is about."""
    try:
        yield
    except InvalidCatalogue:
        raise
    except TallymanError as err:
        raise placed(file, at, err) from err


async def _meter(shelf: Shelf, file: YamlFile, at: Path, entry: dict[str, Any]) -> Change:
    there = await _there(shelf.meters.get, shelf.namespace, entry)
    before = {} if there is None else documents.meter_document(there)
    body = checked(file, at, before | entry, CreateMeterRequest)
    wanted = Meter(
        id="",
        namespace=shelf.namespace,
        created_at=shelf.now,
        updated_at=shelf.now,
        **body.model_dump(exclude={"dimensions", "labels"}),
        dimensions=body.dimensions or {},
        labels=body.labels or {},
    )
    after = documents.meter_document(wanted)
    if there is None:
        await shelf.meters.create(wanted, by=shelf.by)
        return made("meter", body.key, after)
    if before == after:
        return unchanged("meter", body.key)
    for name in _FIXED:
        if before.get(name) != after.get(name):
            reason = f"is {before.get(name)} and cannot change: make a meter with another key"
            raise file.error((*at, name), reason)
    change = MeterChange(body.name, body.description or "", wanted.labels, wanted.dimensions)
    await shelf.meters.change(shelf.namespace, there.id, change, by=shelf.by)
    return changed("meter", body.key, before, after)


async def _feature(shelf: Shelf, file: YamlFile, at: Path, entry: dict[str, Any]) -> Change:
    there = await _there(shelf.features.get, shelf.namespace, entry)
    meters = await shelf.meter_keys()
    before = {} if there is None else documents.feature_document(there, meters)
    ids = {key: meter_id for meter_id, key in meters.items()}
    document = entries.feature_document(file, at, before | entry, ids.get)
    body = checked(file, at, document, CreateFeatureRequest)
    wanted = Feature(
        id="" if there is None else there.id,
        namespace=shelf.namespace,
        key=body.key,
        name=body.name,
        created_at=shelf.now if there is None else there.created_at,
        updated_at=shelf.now,
        meter=None if body.meter is None else body.meter.meter(),
        unit_cost=body.cost(),
        description=body.description,
        labels=body.labels or {},
    )
    after = documents.feature_document(wanted, meters)
    if there is None:
        await shelf.features.create(wanted, by=shelf.by)
        change = made("feature", body.key, after)
    elif before == after:
        change = unchanged("feature", body.key)
    else:
        await shelf.features.replace(wanted, by=shelf.by)
        change = changed("feature", body.key, before, after)
    is_filtered = wanted.meter is not None and bool(wanted.meter.filters)
    return msgspec.structs.replace(change, filtered=is_filtered)


async def _plan(shelf: Shelf, file: YamlFile, at: Path, entry: dict[str, Any]) -> Change:
    versions = await shelf.versions(entry.get("key"))
    published = [one for one in versions if one.status_at(shelf.now) in _COUNTING]
    newest = published[-1] if published else None
    before = {} if newest is None else documents.plan_document(newest)
    features = await shelf.feature_ids()
    document = entries.plan_document(file, at, before | entry, features.get)
    body = checked(file, at, document, PlanEntry)
    draft = next((one for one in versions if one.status_at(shelf.now) is PlanStatus.DRAFT), None)
    wanted = Plan(
        id="" if draft is None else draft.id,
        namespace=shelf.namespace,
        key=body.key,
        version=0,
        name=body.name,
        currency=body.currency,
        billing_cadence=parse_duration(body.billing_cadence, "billing_cadence"),
        phases=body.plan_phases(),
        created_at=shelf.now,
        updated_at=shelf.now,
        pro_rating_enabled=body.pro_rating_enabled is not False,
        settlement_mode=body.settlement_mode,
        description=body.description,
        labels=body.labels or {},
    )
    after = documents.plan_document(wanted)
    if before == after:
        return unchanged("plan", body.key)
    if draft is None:
        kept = await shelf.plans.create(wanted, by=shelf.by)
    else:
        kept = await shelf.plans.replace(wanted, now=shelf.now, by=shelf.by)
    kept = await shelf.plans.publish(
        shelf.namespace, kept.id, shelf.now, body.effective_from, by=shelf.by
    )
    note = f"version {kept.version}"
    if kept.status_at(shelf.now) is PlanStatus.SCHEDULED:
        note += f", from {kept.effective_from:%Y-%m-%d %H:%M}"
    if newest is None:
        return about(made("plan", body.key, after), note=note)
    return about(changed("plan", body.key, before, after), note=f"new {note}")


async def _customer(shelf: Shelf, file: YamlFile, at: Path, entry: dict[str, Any]) -> Change:
    there = await _there(shelf.customers.get, shelf.namespace, entry)
    before = {} if there is None else documents.customer_document(there)
    body = checked(file, at, before | entry, CreateCustomerRequest)
    wanted = Customer(
        id="",
        namespace=shelf.namespace,
        key=body.key,
        created_at=shelf.now,
        updated_at=shelf.now,
        **body.fields(),
    )
    after = documents.customer_document(wanted)
    if there is None:
        kept = await shelf.customers.create(wanted, by=shelf.by)
        return about(made("customer", body.key, after), customer_id=kept.id)
    if before == after:
        return unchanged("customer", body.key)
    change = CustomerChange(**body.fields())
    await shelf.customers.replace(shelf.namespace, there.id, change, shelf.now, by=shelf.by)
    return about(changed("customer", body.key, before, after), customer_id=there.id)


_COUNTING: Final = (PlanStatus.ACTIVE, PlanStatus.SCHEDULED)


async def _there(
    get: Callable[[str, str], Awaitable[Any]], namespace: str, entry: dict[str, Any]
) -> Any:
    """What has the entry's key already, or None; what was deleted is not there."""
    if not isinstance(entry.get("key"), str):
        return None
    try:
        found = await get(namespace, entry["key"])
    except (NotFound, Gone):
        return None
    return found
