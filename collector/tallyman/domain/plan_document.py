"""Phases and rate cards as documents in the wire's shape: dictionaries, lists, text and numbers.

The store keeps them so, and the API and the catalogue file show them so. It does not check a document:
the bodies of the API do.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeAlias, assert_never

from tallyman.domain.duration import parse_duration
from tallyman.domain.entitlement import (
    BooleanEntitlement,
    Entitlement,
    MeteredEntitlement,
    StaticEntitlement,
)
from tallyman.domain.money import written
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Operation,
    Price,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard, TaxConfig

Document: TypeAlias = dict[str, Any]


def write_phases(phases: Iterable[PlanPhase]) -> list[Document]:
    """The phases as a document; features by their ids."""
    return [
        _present(
            key=phase.key,
            name=phase.name,
            description=phase.description,
            labels=dict(phase.labels),
            duration=phase.duration and str(phase.duration),
        )
        | {"rate_cards": [write_rate_card(card) for card in phase.rate_cards]}
        for phase in phases
    ]


def write_rate_card(card: RateCard) -> Document:
    """The rate card as a document; its feature by its id."""
    return _present(
        key=card.key,
        name=card.name,
        description=card.description,
        labels=dict(card.labels),
        feature=card.feature and {"id": card.feature.id},
        currency=card.currency,
        billing_cadence=card.billing_cadence and str(card.billing_cadence),
        price=write_price(card.price),
        unit_config=card.unit_config and _write_unit_config(card.unit_config),
        payment_term=str(card.payment_term),
        commitments=_present(
            minimum_amount=_written(card.commitments.minimum_amount),
            maximum_amount=_written(card.commitments.maximum_amount),
        ),
        discounts=_present(
            percentage=_number(card.discounts.percentage), usage=_written(card.discounts.usage)
        ),
        tax_config=card.tax_config
        and _present(behavior=card.tax_config.behavior, code={"id": card.tax_config.code_id}),
        entitlement=card.entitlement and _write_entitlement(card.entitlement),
    )


def write_price(price: Price) -> Document:
    """The price as a document."""
    match price:
        case FreePrice():
            return {"type": "free"}
        case FlatPrice(amount):
            return {"type": "flat", "amount": written(amount)}
        case UnitPrice(amount):
            return {"type": "unit", "amount": written(amount)}
        case GraduatedPrice(tiers):
            return {"type": "graduated", "tiers": [_write_tier(tier) for tier in tiers]}
        case VolumePrice(tiers):
            return {"type": "volume", "tiers": [_write_tier(tier) for tier in tiers]}
        case _:
            assert_never(price)


def read_phases(documents: Iterable[Document]) -> tuple[PlanPhase, ...]:
    """The phases of a document, with whole ids and keys of features where it has them."""
    return tuple(
        PlanPhase(
            key=given["key"],
            name=given["name"],
            rate_cards=tuple(read_rate_card(card) for card in given["rate_cards"]),
            duration=_read(parse_duration, given.get("duration")),
            description=given.get("description"),
            labels=given.get("labels") or {},
        )
        for given in documents
    )


def read_rate_card(given: Document) -> RateCard:
    """The rate card of a document; a feature without a key has the rate card's."""
    feature, tax = given.get("feature"), given.get("tax_config")
    commitments, discounts = given.get("commitments") or {}, given.get("discounts") or {}
    return RateCard(
        key=given["key"],
        name=given["name"],
        price=read_price(given["price"]),
        feature=feature
        and FeatureReference(feature.get("id", ""), feature.get("key", given["key"])),
        billing_cadence=_read(parse_duration, given.get("billing_cadence")),
        payment_term=PaymentTerm(given.get("payment_term") or PaymentTerm.IN_ARREARS),
        unit_config=_read(read_unit_config, given.get("unit_config")),
        commitments=Commitments(
            _decimal(commitments.get("minimum_amount")), _decimal(commitments.get("maximum_amount"))
        ),
        discounts=Discounts(
            _decimal(discounts.get("percentage")), _decimal(discounts.get("usage"))
        ),
        entitlement=_read(_read_entitlement, given.get("entitlement")),
        tax_config=tax and TaxConfig(tax["code"]["id"], tax.get("behavior")),
        currency=given.get("currency"),
        description=given.get("description"),
        labels=given.get("labels") or {},
    )


def read_price(given: Document) -> Price:
    """The price of a document."""
    match given["type"]:
        case "free":
            return FreePrice()
        case "flat":
            return FlatPrice(Decimal(given["amount"]))
        case "unit":
            return UnitPrice(Decimal(given["amount"]))
        case "graduated":
            return GraduatedPrice(tuple(_read_tier(tier) for tier in given["tiers"]))
        case "volume":
            return VolumePrice(tuple(_read_tier(tier) for tier in given["tiers"]))
    raise ValueError(f"no price has the type {given['type']}")


def with_features(
    phases: Iterable[PlanPhase], refer: Callable[[FeatureReference], FeatureReference]
) -> tuple[PlanPhase, ...]:
    """The phases with each feature that a rate card refers to put in its place."""
    return tuple(
        replace(
            phase,
            rate_cards=tuple(
                card if card.feature is None else replace(card, feature=refer(card.feature))
                for card in phase.rate_cards
            ),
        )
        for phase in phases
    )


def known_features(phases: Iterable[PlanPhase], keys: Mapping[str, str]) -> tuple[PlanPhase, ...]:
    """The phases with the key of each feature by its id; None where there is no such feature."""
    return with_features(phases, lambda feature: replace(feature, key=keys.get(feature.id)))


def features_of(phases: Iterable[PlanPhase]) -> set[str]:
    """The ids of the features that rate cards refer to."""
    return {card.feature.id for phase in phases for card in phase.rate_cards if card.feature}


def _write_tier(tier: PriceTier) -> Document:
    return _present(
        up_to_amount=_written(tier.up_to),
        flat_price=None if tier.flat_price is None else write_price(FlatPrice(tier.flat_price)),
        unit_price=None if tier.unit_price is None else write_price(UnitPrice(tier.unit_price)),
    )


def _read_tier(given: Document) -> PriceTier:
    flat, unit = given.get("flat_price") or {}, given.get("unit_price") or {}
    return PriceTier(
        up_to=_decimal(given.get("up_to_amount")),
        unit_price=_decimal(unit.get("amount")),
        flat_price=_decimal(flat.get("amount")),
    )


def _write_unit_config(config: UnitConfig) -> Document:
    return _present(
        operation=str(config.operation),
        conversion_factor=written(config.conversion_factor),
        rounding=str(config.rounding),
        precision=config.precision,
        display_unit=config.display_unit,
    )


def read_unit_config(given: Document) -> UnitConfig:
    """The unit conversion of a document."""
    return UnitConfig(
        operation=Operation(given["operation"]),
        conversion_factor=Decimal(given["conversion_factor"]),
        rounding=Rounding(given.get("rounding") or Rounding.NONE),
        precision=given.get("precision") or 0,
        display_unit=given.get("display_unit"),
    )


def _write_entitlement(entitlement: Entitlement) -> Document:
    match entitlement:
        case MeteredEntitlement(limit, is_soft_limit, usage_period):
            return _present(
                type="metered",
                is_soft_limit=is_soft_limit,
                limit=_number(limit),
                usage_period=usage_period and str(usage_period),
            )
        case StaticEntitlement(config):
            return {"type": "static", "config": json.loads(config)}
        case BooleanEntitlement():
            return {"type": "boolean"}
        case _:
            assert_never(entitlement)


def _read_entitlement(given: Document) -> Entitlement:
    match given["type"]:
        case "metered":
            return MeteredEntitlement(
                limit=_decimal(given.get("limit")),
                is_soft_limit=given.get("is_soft_limit") or False,
                usage_period=_read(parse_duration, given.get("usage_period")),
            )
        case "static":
            return StaticEntitlement(json.dumps(given["config"], ensure_ascii=False))
        case "boolean":
            return BooleanEntitlement()
    raise ValueError(f"no entitlement has the type {given['type']}")


def _present(**members: Any) -> Document:
    return {name: value for name, value in members.items() if value not in (None, {})}


def _read(read: Callable[[Any], Any], given: Any) -> Any:
    return None if given is None else read(given)


def _written(number: Decimal | None) -> str | None:
    return None if number is None else written(number)


def _number(number: Decimal | None) -> int | float | None:
    """As a JSON number: the wire has a few where the rest of it has text."""
    if number is None:
        return None
    return int(number) if number == number.to_integral_value() else float(number)


def _decimal(given: str | float | None) -> Decimal | None:
    return None if given is None else Decimal(str(given))
