"""What a catalogue's file holds, as the API's own bodies know it, so that both have the same rules.

It changes nothing: see `apply.py`.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from tallyman.api.catalogue.yaml_file import Path, YamlFile, read_path
from tallyman.api.customer_bodies import ExternalKey
from tallyman.api.plan_bodies import CreatePlanRequest
from tallyman.api.problems import invalid_body
from tallyman.api.wire import NUMERIC, Body, Labels, ResourceKey, Time
from tallyman.domain.money import EXACT, written
from tallyman.domain.price import per_unit
from tallyman.errors import InvalidCatalogue, TallymanError

KINDS: Final = ("meters", "features", "plans", "customers", "subscriptions")
Model = TypeVar("Model", bound=BaseModel)
Refer = Callable[[str], str | None]


class PlanEntry(CreatePlanRequest):
    """A plan; with `effective_from` it is scheduled and takes over then."""

    effective_from: Time | None = None


class PlanVersion(Body):
    """A version of a plan, by its number."""

    key: ResourceKey
    version: Annotated[int, Field(ge=1)]


class SubscriptionEntry(Body):
    """A customer on a plan: on the version in force, or on the one that is named.

    `timing` is when one that is on another plan changes; `active_from` and `billing_anchor` are of
    one that is not there yet.
    """

    customer: ExternalKey
    plan: ResourceKey | PlanVersion
    timing: Literal["immediate", "next_billing_cycle"] = "next_billing_cycle"
    active_from: Time | None = None
    billing_anchor: Time | None = None
    labels: Labels | None = None


def entries_of(file: YamlFile) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """The entries of each kind with their places; each kind and each key is there at most once.

    Raises:
        InvalidCatalogue: it is no catalogue; names the line.
    """
    value = {} if file.value is None else file.value
    if not isinstance(value, dict):
        raise file.error((), f"must have {', '.join(KINDS)}")
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {kind: [] for kind in KINDS}
    for kind, entries in value.items():
        if kind not in KINDS:
            raise file.error((kind,), f"is not known: there are {', '.join(KINDS)}")
        if entries is None:
            continue
        if not isinstance(entries, list):
            raise file.error((kind,), "must be a list", "is_array")
        name = "customer" if kind == "subscriptions" else "key"
        seen: set[Any] = set()
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise file.error((kind, index), "must be a mapping", "is_object")
            if isinstance(entry.get(name), str) and entry[name] in seen:
                raise file.error((kind, index, name), f"{entry[name]} is there twice")
            seen.add(str(entry.get(name)))
            found[kind].append(((kind, index), entry))
    return found


def checked(file: YamlFile, at: Path, entry: Mapping[str, Any], model: type[Model]) -> Model:
    """The entry as a body of the API.

    Raises:
        InvalidCatalogue: it is none; every wrong field is named with its line.
    """
    try:
        return model.model_validate_json(json.dumps(entry))
    except ValidationError as err:
        raise placed(file, at, invalid_body(err)) from err


def placed(file: YamlFile, at: Path, err: TallymanError) -> InvalidCatalogue:
    """An error of an entry as one of the file."""
    parameters = getattr(err, "parameters", ())
    if not parameters:
        return file.error(at, str(err))
    return InvalidCatalogue(
        [
            file.fault((*at, *read_path(one.field.removeprefix("body"))), one.reason, one.rule)
            for one in parameters
        ]
    )


def feature_document(
    file: YamlFile, at: Path, entry: Mapping[str, Any], meter_id: Refer
) -> dict[str, Any]:
    """A feature's entry with its meter by id; the file has the key, alone or with filters."""
    given = dict(entry)
    meter = given.get("meter")
    if isinstance(meter, str):
        meter = {"key": meter}
    if isinstance(meter, dict) and "key" in meter:
        rest = {name: value for name, value in meter.items() if name != "key"}
        given["meter"] = {"id": _referred(file, (*at, "meter"), meter["key"], meter_id, "meter")}
        given["meter"] |= rest
    return given


def plan_document(
    file: YamlFile, at: Path, entry: Mapping[str, Any], feature_id: Refer
) -> dict[str, Any]:
    """A plan's entry with its features by id, and every price per unit."""
    given = dict(entry)
    given["phases"] = _each(given.get("phases"), (*at, "phases"), lambda phase, phase_at: {
        **phase,
        **(
            {
                "rate_cards": _each(
                    phase["rate_cards"],
                    (*phase_at, "rate_cards"),
                    lambda card, card_at: _rate_card(file, card_at, card, feature_id),
                )
            }
            if "rate_cards" in phase
            else {}
        ),
    })  # fmt: skip
    if given["phases"] is None:
        del given["phases"]
    return given


def _each(items: Any, at: Path, change: Callable[[dict[str, Any], Path], dict[str, Any]]) -> Any:
    """The list with each mapping in it changed; what is neither, the bodies refuse."""
    if not isinstance(items, list):
        return items
    return [
        change(item, (*at, index)) if isinstance(item, dict) else item
        for index, item in enumerate(items)
    ]


def _rate_card(file: YamlFile, at: Path, card: dict[str, Any], feature_id: Refer) -> dict[str, Any]:
    given = dict(card)
    if isinstance(given.get("feature"), str):
        key = given["feature"]
        given["feature"] = {"id": _referred(file, (*at, "feature"), key, feature_id, "feature")}
    if isinstance(given.get("price"), dict):
        price = given["price"] = _unit_price(file, (*at, "price"), given["price"])
        if "tiers" in price:
            price["tiers"] = _each(
                price["tiers"], (*at, "price", "tiers"), lambda tier, tier_at: _tier(file, tier_at, tier)
            )  # fmt: skip
    return given


def _tier(file: YamlFile, at: Path, tier: dict[str, Any]) -> dict[str, Any]:
    given = dict(tier)
    for name, type_ in (("unit_price", "unit"), ("flat_price", "flat")):
        if isinstance(given.get(name), str):  # the file may have the amount alone
            given[name] = {"type": type_, "amount": given[name]}
        if isinstance(given.get(name), dict):
            given[name] = _unit_price(file, (*at, name), {"type": type_, **given[name]})
    return given


def _unit_price(file: YamlFile, at: Path, price: dict[str, Any]) -> dict[str, Any]:
    """The price per single unit of `{per: 1000000, amount: 3.00}`; any other price as it is."""
    if "per" not in price:
        return dict(price)
    per, amount = price["per"], price.get("amount")
    if isinstance(per, bool) or not isinstance(per, int) or not 1 <= per <= 10**15:
        raise file.error((*at, "per"), "must be a whole number of units such as 1000000")
    if not isinstance(amount, str) or re.fullmatch(NUMERIC, amount, re.ASCII) is None:
        raise file.error((*at, "amount"), "must be a number such as 3.00")
    single = Decimal(written(per_unit(Decimal(amount), Decimal(per))))
    if EXACT.multiply(single, Decimal(per)) != Decimal(amount):
        raise file.error(
            (*at, "amount"),
            f"{amount} per {per} has more than 18 decimals per unit: use unit_config",
        )
    rest = {name: value for name, value in price.items() if name != "per"}
    return {"type": "unit", **rest, "amount": written(single)}


def _referred(file: YamlFile, at: Path, key: object, refer: Refer, noun: str) -> str:
    found = refer(key) if isinstance(key, str) else None
    if found is None:
        raise file.error(at, f"there is no {noun} {key}", "missing_reference")
    return found
