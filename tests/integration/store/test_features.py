"""Features on both relational stores."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tallyman.domain.feature import Feature, FeatureMeter, LlmUnitCost, ManualUnitCost
from tallyman.domain.meter import DimensionFilter
from tallyman.errors import Conflict, Gone, NotFound
from tallyman.store.audit import AuditLog
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.features import FeatureStore
from tallyman.store.meters import MeterStore
from tallyman.store.plans import PlanStore

from tests.integration.store.catalogue import plan_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def feature(key: str = "ai_token", namespace: str = "default") -> Feature:
    return Feature("", namespace, key, key.title(), NOW, NOW)


@pytest.fixture
async def filtered(database: Database) -> Feature:
    """A feature with every kind of filter on the built-in meter."""
    meter = await MeterStore(database).get("default", "kong_konnect_llm_tokens")
    return replace(
        feature(),
        meter=FeatureMeter(
            meter.id,
            (
                DimensionFilter("provider", "eq", ("openai",)),
                DimensionFilter("type", "in", ("request", "response")),
                DimensionFilter("task", "exists", ("false",)),
                DimensionFilter(
                    "model",
                    "or",
                    nested=(
                        DimensionFilter("model", "contains", ("gpt",)),
                        DimensionFilter("model", "eq", ("o1",)),
                    ),
                ),
            ),
        ),
        unit_cost=LlmUnitCost(provider="openai", model_property="model", token_type="output"),
        description="Tokens",
        labels={"a": "b"},
    )


@pytest.fixture
def features(database: Database) -> FeatureStore:
    return FeatureStore(database)


async def test_a_feature_comes_back_as_it_was_given(
    features: FeatureStore, filtered: Feature
) -> None:
    made = await features.create(filtered, by="a-key")

    assert replace(made, id="") == filtered
    assert await features.get("default", made.id) == made
    assert await features.get("default", "ai_token") == made
    assert await features.by_ids("default", [made.id, "nothing"]) == {made.id: made}


async def test_a_key_belongs_to_one_feature_of_its_namespace(features: FeatureStore) -> None:
    made = await features.create(feature())

    with pytest.raises(Conflict, match="another feature has the key ai_token"):
        await features.create(feature())
    await features.create(feature(namespace="theirs"))
    with pytest.raises(NotFound):
        await features.get("theirs", made.id)


async def test_a_deleted_feature_is_gone_and_its_key_is_free(features: FeatureStore) -> None:
    made = await features.create(feature())
    await features.delete("default", made.id)

    with pytest.raises(Gone):
        await features.get("default", made.id)
    again = await features.create(feature())

    assert await features.get("default", "ai_token") == again
    assert set(await features.by_ids("default", [made.id, again.id])) == {made.id, again.id}
    assert await features.list("default") == ([again], 1)


async def test_the_list_is_filtered_ordered_and_cut(
    features: FeatureStore, filtered: Feature
) -> None:
    for key in ("b", "a", "c"):
        await features.create(feature(key))
    given = await features.create(filtered)
    assert given.meter is not None

    by_meter, _ = await features.list("default", [Comparison("meter_id", "eq", (given.meter.id,))])
    second, total = await features.list("default", order_by="key", offset=1, limit=1)
    last, _ = await features.list("default", order_by="key", descending=True, limit=1)

    assert [one.key for one in by_meter] == ["ai_token"]
    assert ([one.key for one in second], total) == (["ai_token"], 4)
    assert [one.key for one in last] == ["c"]


async def test_a_published_feature_keeps_what_it_counts_and_stays(
    features: FeatureStore, filtered: Feature, database: Database
) -> None:
    plans = PlanStore(database)
    made = await features.create(filtered)
    draft = await plans.create(plan_of(made))
    assert made.meter is not None
    moved = replace(made, meter=FeatureMeter(made.meter.id))
    await features.replace(moved)  # a draft bills nothing yet
    await plans.publish("default", draft.id, NOW)

    with pytest.raises(Conflict, match="plan version 1"):
        await features.replace(made)
    with pytest.raises(Conflict, match="plan version 1"):
        await features.delete("default", made.id)
    renamed = await features.replace(replace(moved, name="Another name"))
    await plans.archive("default", draft.id, NOW)
    await features.delete("default", made.id)

    assert (renamed.name, renamed.meter) == ("Another name", moved.meter)


async def test_every_change_of_a_feature_is_in_the_audit_log(
    features: FeatureStore, database: Database
) -> None:
    made = await features.create(feature(), by="key-1")
    await features.replace(replace(made, unit_cost=ManualUnitCost(Decimal("0.10"))), by="key-2")
    await features.delete("default", made.id)

    entries = await AuditLog(database).entries("default", "feature", made.id)

    assert [(entry.action, entry.actor) for entry in entries] == [
        ("created", "key-1"),
        ("changed", "key-2"),
        ("deleted", "local"),
    ]
    assert entries[1].after is not None
    assert entries[1].after["unit_cost"] == {"type": "manual", "amount": "0.1"}
