"""Plans and their versions on both relational stores."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tallyman.domain.duration import Duration
from tallyman.domain.entitlement import (
    MeteredEntitlement,
    StaticEntitlement,
)
from tallyman.domain.feature import Feature
from tallyman.domain.plan import Plan, PlanStatus
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Operation,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard, TaxConfig
from tallyman.errors import Conflict, Gone, InvalidPlan, NotFound
from tallyman.store.audit import AuditLog
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.features import FeatureStore
from tallyman.store.plans import PlanStore

from tests.integration.store.catalogue import MONTH, plan_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def plans(database: Database) -> PlanStore:
    return PlanStore(database)


@pytest.fixture
async def feature(database: Database) -> Feature:
    return await FeatureStore(database).create(Feature("", "default", "token", "Token", NOW, NOW))


def rules_of(err: pytest.ExceptionInfo[InvalidPlan]) -> list[tuple[str, str]]:
    return [(parameter.field, parameter.rule) for parameter in err.value.parameters]


async def test_a_plan_with_everything_in_it_comes_back_as_it_was_given(
    plans: PlanStore, feature: Feature
) -> None:
    token = FeatureReference(feature.id, feature.key)
    tiers = (
        PriceTier(Decimal(1_000_000), unit_price=Decimal(0)),
        PriceTier(Decimal(5_000_000), Decimal("0.000003"), Decimal(5)),
        PriceTier(None, unit_price=Decimal("0.0000000000025")),
    )
    cards = (
        RateCard("setup", "Setup", FlatPrice(Decimal("99.90")), currency="USD"),
        RateCard("fee", "Fee", FlatPrice(Decimal(20)), None, MONTH, PaymentTerm.IN_ADVANCE),
        RateCard(
            "token", "Tokens", GraduatedPrice(tiers), token, MONTH,
            commitments=Commitments(Decimal(10), Decimal("500.5")),
            discounts=Discounts(Decimal("12.5"), Decimal(1000)),
            entitlement=MeteredEntitlement(Decimal(5_000_000), True, Duration(time=DAY)),
            tax_config=TaxConfig("01J00000000000000000000000", "exclusive"),
            description="Every token", labels={"team": "ai"},
        ),
    )  # fmt: skip
    package = UnitConfig(Operation.DIVIDE, Decimal(1000), Rounding.CEILING, 2, "thousand")
    later = (
        RateCard("token", "Tokens", VolumePrice(tiers), token, MONTH, unit_config=package,
                 entitlement=StaticEntitlement('{"models": ["gpt-4o", null]}')),
        RateCard("access", "Access", FreePrice(), billing_cadence=Duration(months=12)),
    )  # fmt: skip
    given = replace(
        plan_of(feature),
        phases=(
            PlanPhase("trial", "Trial", cards, Duration(months=2), "Begin", {"a": "b"}),
            PlanPhase("default", "Default", later),
        ),
        description="All of it",
        labels={"tier": "pro"},
        pro_rating_enabled=False,
        settlement_mode="credit_only",
    )

    made = await plans.create(given, by="a-key")

    assert replace(made, id="") == replace(given, version=1)
    assert await plans.get("default", made.id) == made
    assert await plans.by_ids("default", [made.id, "nothing"]) == {made.id: made}
    assert await plans.version("default", "plan", 1) == made


async def test_a_plan_with_the_same_key_is_the_next_version(
    plans: PlanStore, feature: Feature
) -> None:
    first = await plans.create(plan_of(feature))
    with pytest.raises(InvalidPlan, match="version 1 of plan is a draft") as err:
        await plans.create(plan_of(feature))
    await plans.publish("default", first.id, NOW)
    second = await plans.create(plan_of(feature))
    await plans.delete("default", second.id, NOW)
    third = await plans.create(plan_of(feature))

    assert rules_of(err) == [("key", "plan_draft_exists")]
    assert (first.version, second.version, third.version) == (1, 2, 3)
    with pytest.raises(Gone):
        await plans.get("default", second.id)
    with pytest.raises(Gone):
        await plans.version("default", "plan", 2)
    with pytest.raises(NotFound):
        await plans.version("default", "plan", 4)


async def test_publishing_a_version_archives_the_one_in_force(
    plans: PlanStore, feature: Feature
) -> None:
    first = await plans.create(plan_of(feature))
    reason = "no version of the plan plan is in force: version 1 is a draft: publish it"
    with pytest.raises(NotFound, match=reason):
        await plans.active("default", "plan", NOW)
    first = await plans.publish("default", first.id, NOW)
    second = await plans.create(plan_of(feature, UnitPrice(Decimal("0.000004"))))
    second = await plans.publish("default", second.id, NOW + DAY)

    assert await plans.active("default", "plan", NOW + DAY) == second
    old = await plans.get("default", first.id)
    assert old == replace(first, effective_to=NOW + DAY, updated_at=NOW + DAY)
    assert old.status_at(NOW + DAY) is PlanStatus.ARCHIVED


async def test_a_published_version_is_never_changed_or_deleted(
    plans: PlanStore, feature: Feature
) -> None:
    made = await plans.create(plan_of(feature))
    changed = await plans.replace(replace(made, name="New name"), now=NOW)
    published = await plans.publish("default", made.id, NOW)

    for change in (
        plans.replace(replace(published, name="Newer"), now=NOW),
        plans.publish("default", made.id, NOW),
        plans.delete("default", made.id, NOW),
    ):
        with pytest.raises(InvalidPlan, match="is active and cannot be") as err:
            await change
        assert rules_of(err) == [("status", "plan_invalid_status")]
    assert changed.name == "New name"
    assert await plans.get("default", made.id) == published


async def test_a_scheduled_version_takes_over_at_its_time_and_not_if_it_is_withdrawn(
    plans: PlanStore, feature: Feature
) -> None:
    first = await plans.create(plan_of(feature))
    await plans.publish("default", first.id, NOW)
    second = await plans.create(plan_of(feature))
    scheduled = await plans.publish("default", second.id, NOW, NOW + DAY)

    assert scheduled.status_at(NOW) is PlanStatus.SCHEDULED
    assert (await plans.active("default", "plan", NOW)).id == first.id
    assert (await plans.active("default", "plan", NOW + DAY)).id == second.id

    third = await plans.create(plan_of(feature))
    with pytest.raises(InvalidPlan, match="version 2 of plan is scheduled"):
        await plans.publish("default", third.id, NOW)
    await plans.archive("default", second.id, NOW)

    assert (await plans.active("default", "plan", NOW + DAY)).id == first.id


async def test_a_plan_is_published_only_without_a_broken_rule(
    plans: PlanStore, feature: Feature
) -> None:
    tiered = GraduatedPrice((PriceTier(Decimal(10), unit_price=Decimal(1)),))
    draft = await plans.create(plan_of(feature, tiered))

    with pytest.raises(InvalidPlan) as err:
        await plans.publish("default", draft.id, NOW)

    assert rules_of(err) == [
        ("phases[0].rate_cards[1].price.tiers", "invoice_line_missing_open_ended_tier")
    ]


async def test_a_draft_that_lost_its_feature_says_so(
    plans: PlanStore, feature: Feature, database: Database
) -> None:
    draft = await plans.create(plan_of(feature))
    await FeatureStore(database).delete("default", feature.id)

    broken = (await plans.get("default", draft.id)).broken_rules()

    assert [rule.code for rule in broken] == ["rate_card_feature_not_found"]
    with pytest.raises(InvalidPlan):
        await plans.publish("default", draft.id, NOW)


async def test_not_even_a_draft_has_a_feature_of_another_namespace(
    plans: PlanStore, feature: Feature
) -> None:
    with pytest.raises(InvalidPlan) as err:
        await plans.create(plan_of(replace(feature, namespace="theirs")))

    assert rules_of(err) == [("phases[0].rate_cards[1].feature.id", "rate_card_feature_not_found")]


async def test_the_list_is_filtered_by_the_status_of_the_moment(
    plans: PlanStore, feature: Feature
) -> None:
    async def made(key: str) -> Plan:
        return await plans.create(replace(plan_of(feature), key=key))

    await made("a_draft")
    await plans.publish("default", (await made("an_active")).id, NOW)
    await plans.publish("default", (await made("scheduled")).id, NOW, NOW + DAY)
    archived = await plans.publish("default", (await made("archived")).id, NOW)
    await plans.archive("default", archived.id, NOW)

    found = {}
    for status in PlanStatus:
        listed, total = await plans.list(
            "default", [Comparison("status", "eq", (status,))], now=NOW
        )
        assert total == len(listed)
        found[status.value] = [plan.key for plan in listed]
    page, total = await plans.list("default", now=NOW, order_by="key", offset=2, limit=1)

    assert found == {
        "draft": ["a_draft"],
        "active": ["an_active"],
        "scheduled": ["scheduled"],
        "archived": ["archived"],
    }
    assert ([plan.key for plan in page], total) == (["archived"], 4)


async def test_of_two_publishings_at_once_one_is_in_force(
    plans: PlanStore, feature: Feature, database: Database
) -> None:
    made = await plans.create(plan_of(feature))

    results = await asyncio.gather(
        *(plans.publish("default", made.id, NOW) for _ in range(4)), return_exceptions=True
    )

    assert sorted(type(result).__name__ for result in results) == [
        "InvalidPlan", "InvalidPlan", "InvalidPlan", "Plan",
    ]  # fmt: skip


async def test_of_drafts_made_at_once_one_stays(plans: PlanStore, feature: Feature) -> None:
    results = await asyncio.gather(
        *(plans.create(plan_of(feature)) for _ in range(4)), return_exceptions=True
    )

    assert [type(result) for result in results].count(Plan) == 1
    assert all(isinstance(result, Plan | InvalidPlan | Conflict) for result in results)


async def test_every_change_of_a_plan_is_in_the_audit_log(
    plans: PlanStore, feature: Feature, database: Database
) -> None:
    first = await plans.create(plan_of(feature), by="key-1")
    await plans.replace(replace(first, name="Another"), now=NOW, by="key-2")
    await plans.publish("default", first.id, NOW, by="key-3")
    second = await plans.create(plan_of(feature), by="key-1")
    await plans.publish("default", second.id, NOW, by="key-4")

    entries = await AuditLog(database).entries("default", "plan", first.id)

    assert [(entry.action, entry.actor) for entry in entries] == [
        ("created", "key-1"),
        ("changed", "key-2"),
        ("published", "key-3"),
        ("archived", "key-4"),
    ]
