"""What a rate card must keep to: each broken rule with its code and field.

It does not know plans: see `plan_rules.py`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from tallyman.domain.entitlement import Entitlement, MeteredEntitlement, StaticEntitlement
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Price,
    PriceTier,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import PaymentTerm, RateCard
from tallyman.errors import InvalidParameter


class Severity(StrEnum):
    """A critical rule is kept by drafts too; a warning stops the publishing only."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class BrokenRule:
    """`code` is the API's where it has one; `field` is a path such as `phases[0].key`."""

    code: str
    message: str
    field: str
    severity: Severity = Severity.WARNING

    def under(self, path: str) -> "BrokenRule":
        """The same, seen from further out."""
        return BrokenRule(self.code, self.message, f"{path}.{self.field}", self.severity)

    def as_parameter(self) -> InvalidParameter:
        """As an error of the API names it."""
        return InvalidParameter(self.field, self.code, self.message)


def rate_card_rules(card: RateCard) -> Iterator[BrokenRule]:
    """Every rule that the rate card breaks, with fields relative to it."""
    yield from _feature(card)
    yield from _cadence(card)
    yield from _price(card.price)
    yield from _adjustments(card)
    yield from _entitlement(card.entitlement)


def _feature(card: RateCard) -> Iterator[BrokenRule]:
    if card.feature is None:
        if card.entitlement is not None:
            message = "an entitlement template needs a feature"
            yield BrokenRule("entitlement_template_with_no_feature", message, "feature")
        if isinstance(card.price, UnitPrice | GraduatedPrice | VolumePrice):
            message = "a price by usage needs a feature whose meter counts it"
            yield BrokenRule("rate_card_usage_price_with_no_feature", message, "feature")
    elif card.feature.key is None:
        message = f"there is no feature {card.feature.id}"
        yield BrokenRule("rate_card_feature_not_found", message, "feature.id", Severity.CRITICAL)
    elif card.feature.key != card.key:
        message = f"the key must be that of the feature, {card.feature.key}"
        yield BrokenRule("rate_card_key_feature_key_mismatch", message, "key", Severity.CRITICAL)


def _cadence(card: RateCard) -> Iterator[BrokenRule]:
    if card.billing_cadence is None:
        if not isinstance(card.price, FlatPrice | FreePrice):
            message = "only a flat price can be due once: give it a billing cadence"
            yield BrokenRule("rate_card_only_flat_price_allowed", message, "price")
    elif not card.billing_cadence.at_least_an_hour:
        message = "the billing cadence must be at least 1 hour"
        yield BrokenRule("billing_cadence_invalid_value", message, "billing_cadence")
    if card.payment_term is PaymentTerm.IN_ADVANCE and not isinstance(card.price, FlatPrice):
        message = "only a flat price can be due in advance"
        yield BrokenRule("payment_term_in_advance_with_usage_price", message, "payment_term")


def _price(price: Price) -> Iterator[BrokenRule]:
    match price:
        case FlatPrice(amount) | UnitPrice(amount):
            yield from _not_negative(amount, "price.amount", "price_negative_amount")
        case GraduatedPrice(tiers) | VolumePrice(tiers):
            yield from _tiers(tiers)
        case FreePrice():
            pass


def _tiers(tiers: tuple[PriceTier, ...]) -> Iterator[BrokenRule]:
    if not tiers:
        yield BrokenRule("invoice_line_no_tiers", "a tiered price needs a tier", "price.tiers")
        return
    if tiers[-1].up_to is not None:
        message = "the last tier must be open-ended: without up_to_amount"
        yield BrokenRule("invoice_line_missing_open_ended_tier", message, "price.tiers")
    floor = Decimal(0)
    for index, tier in enumerate(tiers):
        at = f"price.tiers[{index}]"
        if tier.up_to is None:
            if index < len(tiers) - 1:
                message = "only the last tier can be open-ended"
                yield BrokenRule("price_tier_open_ended_before_last", message, f"{at}.up_to_amount")
        elif tier.up_to <= floor:
            message = f"must be greater than {floor:f}, where the tier begins"
            yield BrokenRule("price_tiers_not_ascending", message, f"{at}.up_to_amount")
        else:
            floor = tier.up_to
        if tier.flat_price is None and tier.unit_price is None:
            message = "a tier needs a flat price or a unit price"
            yield BrokenRule("price_tier_without_price", message, at)
        for name in ("flat_price", "unit_price"):
            amount = getattr(tier, name)
            yield from _not_negative(amount, f"{at}.{name}.amount", "price_negative_amount")


def _adjustments(card: RateCard) -> Iterator[BrokenRule]:
    by_usage = isinstance(card.price, UnitPrice | GraduatedPrice | VolumePrice)
    yield from _discounts(card.discounts, by_usage)
    yield from _commitments(card.commitments, by_usage)
    yield from _unit_config(card.unit_config, by_usage)


def _discounts(discounts: Discounts, by_usage: bool) -> Iterator[BrokenRule]:
    if discounts.percentage is not None and not 0 <= discounts.percentage <= 100:
        message = "the percentage must be from 0 to 100"
        yield BrokenRule(
            "percentage_discount_invalid_value",
            message,
            "discounts.percentage",
            Severity.CRITICAL,
        )
    if discounts.usage is not None and not by_usage:
        message = "a usage discount is for prices by usage"
        yield BrokenRule("usage_discount_with_flat_price", message, "discounts.usage")
    yield from _not_negative(discounts.usage, "discounts.usage", "usage_discount_negative_quantity")


def _commitments(commitments: Commitments, by_usage: bool) -> Iterator[BrokenRule]:
    least, most = commitments.minimum_amount, commitments.maximum_amount
    if (least is not None or most is not None) and not by_usage:
        message = "commitments are for prices by usage"
        yield BrokenRule("commitments_with_flat_price", message, "commitments")
    for name in ("minimum_amount", "maximum_amount"):
        amount = getattr(commitments, name)
        yield from _not_negative(amount, f"commitments.{name}", "commitments_negative_amount")
    if least is not None and most is not None and least > most:
        message = "the minimum must not be greater than the maximum"
        yield BrokenRule(
            "commitments_minimum_greater_than_maximum", message, "commitments.minimum_amount"
        )


def _unit_config(config: UnitConfig | None, by_usage: bool) -> Iterator[BrokenRule]:
    if config is None:
        return
    if not by_usage:
        message = "a unit conversion is for prices by usage"
        yield BrokenRule("unit_config_with_flat_price", message, "unit_config")
    if config.conversion_factor <= 0:
        message = "the conversion factor must be greater than 0"
        yield BrokenRule(
            "unit_config_invalid_conversion_factor",
            message,
            "unit_config.conversion_factor",
            Severity.CRITICAL,
        )
    if not 0 <= config.precision <= 18:
        message = "the precision must be from 0 to 18 decimals"
        yield BrokenRule(
            "unit_config_invalid_precision", message, "unit_config.precision", Severity.CRITICAL
        )


def _entitlement(entitlement: Entitlement | None) -> Iterator[BrokenRule]:
    match entitlement:
        case MeteredEntitlement(limit=limit, usage_period=usage_period):
            if usage_period is not None and not usage_period.at_least_an_hour:
                message = "the usage period must be at least 1 hour"
                yield BrokenRule(
                    "entitlement_template_usage_period_less_then_an_hour",
                    message,
                    "entitlement.usage_period",
                )
            yield from _not_negative(
                limit, "entitlement.limit", "entitlement_template_negative_limit"
            )
        case StaticEntitlement(config):
            try:
                json.loads(config)
            except ValueError:
                message = "the config must be JSON"
                yield BrokenRule(
                    "entitlement_template_invalid_json_config",
                    message,
                    "entitlement.config",
                    Severity.CRITICAL,
                )


def _not_negative(amount: Decimal | None, field: str, code: str) -> Iterator[BrokenRule]:
    if amount is not None and amount < 0:
        yield BrokenRule(code, "must not be negative", field, Severity.CRITICAL)
