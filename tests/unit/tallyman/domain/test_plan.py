"""Plans: which rules they keep, and what becomes of a version."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from tallyman.domain.duration import Duration, parse_duration
from tallyman.domain.entitlement import (
    BooleanEntitlement,
    MeteredEntitlement,
    StaticEntitlement,
)
from tallyman.domain.plan import Plan, PlanStatus, archive, publish
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Operation,
    PriceTier,
    UnitConfig,
    UnitPrice,
    VolumePrice,
    per_million,
    per_unit,
)
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard
from tallyman.domain.rate_card_rules import Severity
from tallyman.errors import InvalidPlan

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
MONTH = Duration(1)
MINUTE = parse_duration("PT1M")
TOKENS = RateCard(
    "tokens", "Tokens", UnitPrice(D("0.000002")), FeatureReference("f1", "tokens"), MONTH
)
SEAT = RateCard("seat", "Seat", FlatPrice(D(20)), billing_cadence=MONTH)


def plan_of(*phases: PlanPhase, **changes: Any) -> Plan:
    plan = Plan("p1", "default", "starter", 1, "Starter", "USD", MONTH, phases, NOW, NOW)
    return replace(plan, **changes)


def phase_of(*cards: RateCard, key: str = "all", duration: Duration | None = None) -> PlanPhase:
    return PlanPhase(key, key, cards, duration)


def tokens(**changes: Any) -> Plan:
    return plan_of(phase_of(replace(TOKENS, **changes)))


def seat(**changes: Any) -> Plan:
    return plan_of(phase_of(replace(SEAT, **changes)))


CARD = "phases[0].rate_cards[0]"


@pytest.mark.parametrize(
    ("plan", "broken"),
    [
        pytest.param(plan_of(phase_of(TOKENS, SEAT)), [], id="a good plan breaks no rule"),
        pytest.param(plan_of(), [("plan_with_no_phases", "phases")], id="no phases"),
        pytest.param(
            plan_of(phase_of(SEAT), currency="ZZZ"),
            [("currency_invalid", "currency")],
            id="no money",
        ),
        pytest.param(
            plan_of(phase_of(SEAT, duration=MONTH)),
            [("plan_has_last_phase_with_duration", "phases[0].duration")],
            id="the last phase ends",
        ),
        pytest.param(
            plan_of(phase_of(SEAT, key="a"), phase_of(SEAT, key="b")),
            [("plan_has_non_last_phase_with_no_duration", "phases[0].duration")],
            id="the first phase never ends",
        ),
        pytest.param(
            plan_of(phase_of(SEAT, key="a", duration=MINUTE), phase_of(SEAT, key="b")),
            [("plan_phase_duration_less_then_an_hour", "phases[0].duration")],
            id="a phase of a minute",
        ),
        pytest.param(
            plan_of(phase_of(SEAT, duration=MONTH), phase_of(SEAT)),
            [
                ("plan_phase_duplicated_key", "phases[0].key"),
                ("plan_phase_duplicated_key", "phases[1].key"),
            ],
            id="two phases of one key",
        ),
        pytest.param(
            plan_of(phase_of()),
            [("plan_phase_has_no_rate_cards", "phases[0].rate_cards")],
            id="a phase of nothing",
        ),
        pytest.param(
            plan_of(phase_of(SEAT, SEAT)),
            [
                ("rate_card_duplicated_key", f"{CARD}.key"),
                ("rate_card_duplicated_key", "phases[0].rate_cards[1].key"),
            ],
            id="two rate cards of one key",
        ),
        pytest.param(
            tokens(key="token"),
            [("rate_card_key_feature_key_mismatch", f"{CARD}.key")],
            id="not the feature's key",
        ),
        pytest.param(
            tokens(feature=FeatureReference("f9", None)),
            [("rate_card_feature_not_found", f"{CARD}.feature.id")],
            id="no such feature",
        ),
        pytest.param(
            tokens(feature=None),
            [("rate_card_usage_price_with_no_feature", f"{CARD}.feature")],
            id="usage of nothing",
        ),
        pytest.param(
            seat(entitlement=BooleanEntitlement()),
            [("entitlement_template_with_no_feature", f"{CARD}.feature")],
            id="an entitlement to nothing",
        ),
        pytest.param(
            tokens(billing_cadence=None),
            [("rate_card_only_flat_price_allowed", f"{CARD}.price")],
            id="usage that is due once",
        ),
        pytest.param(
            seat(billing_cadence=MINUTE),
            [
                ("billing_cadence_invalid_value", f"{CARD}.billing_cadence"),
                ("rate_card_billing_cadence_unaligned", f"{CARD}.billing_cadence"),
            ],
            id="due every minute",
        ),
        pytest.param(
            seat(billing_cadence=parse_duration("P1W")),
            [("rate_card_billing_cadence_unaligned", f"{CARD}.billing_cadence")],
            id="a month is no number of weeks",
        ),
        pytest.param(seat(billing_cadence=Duration(12)), [], id="yearly within a monthly plan"),
        pytest.param(seat(billing_cadence=None), [], id="a flat price that is due once"),
        pytest.param(
            tokens(payment_term=PaymentTerm.IN_ADVANCE),
            [("payment_term_in_advance_with_usage_price", f"{CARD}.payment_term")],
            id="usage before it is used",
        ),
        pytest.param(
            tokens(price=GraduatedPrice(())),
            [("invoice_line_no_tiers", f"{CARD}.price.tiers")],
            id="tiered without tiers",
        ),
        pytest.param(
            tokens(price=VolumePrice((PriceTier(D(5), D(1)),))),
            [("invoice_line_missing_open_ended_tier", f"{CARD}.price.tiers")],
            id="no last tier",
        ),
        pytest.param(
            tokens(
                price=VolumePrice(
                    (
                        PriceTier(None, D(1)),
                        PriceTier(D(5), D(1)),
                        PriceTier(D(5)),
                        PriceTier(None, D(-1)),
                    )
                )
            ),
            [
                ("price_tier_open_ended_before_last", f"{CARD}.price.tiers[0].up_to_amount"),
                ("price_tiers_not_ascending", f"{CARD}.price.tiers[2].up_to_amount"),
                ("price_tier_without_price", f"{CARD}.price.tiers[2]"),
                ("price_negative_amount", f"{CARD}.price.tiers[3].unit_price.amount"),
            ],
            id="everything that can be wrong with tiers",
        ),
        pytest.param(
            seat(price=FlatPrice(D(-1))),
            [("price_negative_amount", f"{CARD}.price.amount")],
            id="a negative price",
        ),
        pytest.param(
            tokens(discounts=Discounts(D("100.1"), D(-1))),
            [
                ("percentage_discount_invalid_value", f"{CARD}.discounts.percentage"),
                ("usage_discount_negative_quantity", f"{CARD}.discounts.usage"),
            ],
            id="more off than there is",
        ),
        pytest.param(
            seat(
                discounts=Discounts(usage=D(5)),
                commitments=Commitments(D(5)),
                unit_config=UnitConfig(Operation.DIVIDE, D(2)),
            ),
            [
                ("usage_discount_with_flat_price", f"{CARD}.discounts.usage"),
                ("commitments_with_flat_price", f"{CARD}.commitments"),
                ("unit_config_with_flat_price", f"{CARD}.unit_config"),
            ],
            id="what only usage can have",
        ),
        pytest.param(
            tokens(commitments=Commitments(D(5), D(4))),
            [("commitments_minimum_greater_than_maximum", f"{CARD}.commitments.minimum_amount")],
            id="at least more than at most",
        ),
        pytest.param(
            tokens(commitments=Commitments(maximum_amount=D(-4))),
            [("commitments_negative_amount", f"{CARD}.commitments.maximum_amount")],
            id="at most less than nothing",
        ),
        pytest.param(
            tokens(unit_config=UnitConfig(Operation.DIVIDE, D(0), precision=-1)),
            [
                ("unit_config_invalid_conversion_factor", f"{CARD}.unit_config.conversion_factor"),
                ("unit_config_invalid_precision", f"{CARD}.unit_config.precision"),
            ],
            id="divided by nothing",
        ),
        pytest.param(
            tokens(entitlement=MeteredEntitlement(D(-1), usage_period=MINUTE)),
            [
                (
                    "entitlement_template_usage_period_less_then_an_hour",
                    f"{CARD}.entitlement.usage_period",
                ),
                ("entitlement_template_negative_limit", f"{CARD}.entitlement.limit"),
            ],
            id="a limit by the minute",
        ),
        pytest.param(
            tokens(entitlement=StaticEntitlement("{")),
            [("entitlement_template_invalid_json_config", f"{CARD}.entitlement.config")],
            id="a setting that cannot be read",
        ),
        pytest.param(
            plan_of(
                phase_of(replace(TOKENS, key="other"), key="a"),
                phase_of(key="b"),
                billing_cadence=MINUTE,
            ),
            [
                ("billing_cadence_invalid_value", "billing_cadence"),
                ("plan_has_non_last_phase_with_no_duration", "phases[0].duration"),
                ("rate_card_key_feature_key_mismatch", f"{CARD}.key"),
                ("rate_card_billing_cadence_unaligned", f"{CARD}.billing_cadence"),
                ("plan_phase_has_no_rate_cards", "phases[1].rate_cards"),
            ],
            id="every broken rule is named at once",
        ),
    ],
)
def test_a_plan_names_every_rule_it_breaks(plan: Plan, broken: Sequence[tuple[str, str]]) -> None:
    assert [(rule.code, rule.field) for rule in plan.broken_rules()] == list(broken)


def test_a_free_price_needs_nothing() -> None:
    assert seat(price=FreePrice()).broken_rules() == ()


def test_a_draft_may_lack_what_only_publishing_needs() -> None:
    assert [rule.severity for rule in plan_of().broken_rules()] == [Severity.WARNING]
    assert [r.severity for r in tokens(key="token").broken_rules()] == [Severity.CRITICAL]


def test_a_plan_goes_from_draft_to_archived() -> None:
    later = NOW + timedelta(days=1)
    draft = plan_of(phase_of(TOKENS))
    scheduled = publish(draft, NOW, later)
    archived = archive(publish(draft, NOW), later)

    assert draft.status_at(NOW) is PlanStatus.DRAFT
    assert scheduled.status_at(NOW) is PlanStatus.SCHEDULED
    assert scheduled.status_at(later) is PlanStatus.ACTIVE
    assert archived.status_at(later - timedelta(microseconds=1)) is PlanStatus.ACTIVE
    assert archived.status_at(later) is PlanStatus.ARCHIVED


def test_a_plan_is_not_in_force_before_it_is_published() -> None:
    assert publish(plan_of(phase_of(SEAT)), NOW, NOW - timedelta(days=1)).effective_from == NOW


def test_a_plan_that_breaks_a_rule_is_not_published() -> None:
    with pytest.raises(InvalidPlan) as caught:
        publish(plan_of(), NOW)

    assert [(p.field, p.rule) for p in caught.value.parameters] == [
        ("phases", "plan_with_no_phases")
    ]


def test_only_a_draft_is_published_and_only_once() -> None:
    with pytest.raises(InvalidPlan, match="is active"):
        publish(publish(plan_of(phase_of(SEAT)), NOW), NOW)


def test_a_draft_is_not_archived() -> None:
    with pytest.raises(InvalidPlan, match="is draft"):
        archive(plan_of(phase_of(SEAT)), NOW)


@pytest.mark.parametrize(
    ("amount", "units", "one", "million"),
    [
        pytest.param("3.00", 1_000_000, "0.000003", "3", id="three dollars per million"),
        pytest.param("0.002", 1_000, "0.000002", "2", id="per thousand"),
        pytest.param("1", 1, "1", "1000000", id="a dollar per token, which is a million"),
    ],
)
def test_a_price_is_shown_per_token_and_per_million(
    amount: str, units: int, one: str, million: str
) -> None:
    price = per_unit(D(amount), D(units))

    assert (str(price), str(per_million(price))) == (one, million)
