"""Price lists of three shapes, and what they change in the prices in force."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from tallyman.domain.llm_price import HeldPrice, LlmPrice, ModelPricing, OfferedPrice
from tallyman.domain.price_list import LITELLM, MODELS_DEV, PriceList, read_price_list
from tallyman.domain.price_merge import propose
from tallyman.errors import InvalidInput
from tallyman.store.llm_prices import built_in_list

DOCS = Path(__file__).parents[4] / "docs"
MAY = datetime(2026, 5, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_litellms_prices_are_by_the_token_exactly() -> None:
    text = """{
      "sample_spec": {"litellm_provider": "one of", "input_cost_per_token": 0.0},
      "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06},
      "gemini/gemini-2.5-pro": {"litellm_provider": "gemini", "mode": "chat",
        "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05},
      "openai/gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 9,
        "output_cost_per_token": 9},
      "dall-e-3": {"litellm_provider": "openai", "mode": "image_generation"},
      "broken": {"litellm_provider": "openai", "input_cost_per_token": "much"}
    }"""

    assert read_price_list(text) == PriceList(
        LITELLM,
        (
            OfferedPrice(
                "openai", "gpt-4o", ModelPricing(D("0.0000025"), D("0.00001"), D("0.00000125"))
            ),
            OfferedPrice("google", "gemini-2.5-pro", ModelPricing(D("0.00000125"), D("0.00001"))),
        ),
        ("broken", "openai/gpt-4o"),
    )


def test_models_devs_prices_are_by_the_million() -> None:
    cost = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}
    model = {
        "id": "claude-sonnet-4-5",
        "name": "Claude Sonnet 4.5",
        "release_date": "2025-09-29",
        "cost": cost,
    }
    given = {
        "anthropic": {
            "id": "anthropic",
            "name": "Anthropic",
            "models": {"claude-sonnet-4-5": model, "free": {"id": "free"}},
        }
    }

    assert read_price_list(json.dumps(given)) == PriceList(
        MODELS_DEV,
        (
            OfferedPrice(
                "anthropic",
                "claude-sonnet-4-5",
                ModelPricing(D("0.000003"), D("0.000015"), D("0.0000003"), D("0.00000375")),
                provider_name="Anthropic",
                model_name="Claude Sonnet 4.5",
                effective_from=datetime(2025, 9, 29, tzinfo=UTC),
            ),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("prices", id="no JSON"),
        pytest.param("[]", id="an array"),
        pytest.param('{"a": {"b": 1}}', id="something else"),
        pytest.param('{"prices": []}', id="a list of nothing"),
        pytest.param('{"prices": [{"provider": "x", "model": "y", "input": NaN}]}', id="no number"),
        pytest.param('{"a": {"litellm_provider": "x"}}', id="no prices"),
    ],
)
def test_what_is_no_price_list_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_price_list(text)


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1e-999999", "1e999999", "0.000001", "openai", "\x00", "2026-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("litellm_provider", "mode", "input_cost_per_token", "output_cost_per_token"),
                    *(
                        "models",
                        "cost",
                        "input",
                        "output",
                        "cache_read",
                        "name",
                        "release_date",
                        "a/b",
                    ),
                    *("prices", "per", "currency", "provider", "providers", "model", "from", "to"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@hypothesis.given(_ANY)
def test_any_file_is_a_list_with_prices_or_refused(given: Any) -> None:
    try:
        read = read_price_list(json.dumps(given))
    except InvalidInput:
        return

    for one in read.offered:
        assert one.provider
        assert one.model
        assert "\x00" not in one.provider + one.model
        assert all(D(0) <= price <= D(1) for _, price in one.pricing.given())


@pytest.mark.parametrize(
    ("shape", "skipped"),
    [
        pytest.param({"provider": "x", "model": "y", "input": "1"}, 1, id="without an output"),
        pytest.param({"provider": 1, "model": "y", "input": "1", "output": "1"}, 1, id="no name"),
        pytest.param(
            {"provider": "x", "model": "y", "input": "9", "output": "0"}, 1, id="too dear"
        ),
        pytest.param(
            {"provider": "x", "model": "y", "input": "-1", "output": "0"}, 1, id="below 0"
        ),
        pytest.param({"provider": "x", "model": "y", "input": "1", "output": "0"}, 0, id="whole"),
    ],
)
def test_an_entry_is_left_out_that_is(shape: dict[str, Any], skipped: int) -> None:
    good = {"provider": "good", "model": "good", "input": "1", "output": "1"}

    read = read_price_list(json.dumps({"prices": [shape, good]}))

    assert (len(read.skipped), len(read.offered)) == (skipped, 2 - skipped)


def test_the_built_in_list_is_whole_and_says_where_each_price_comes_from() -> None:
    listed = built_in_list()

    assert listed.origin == "built-in"
    assert listed.skipped == ()
    assert {one.provider for one in listed.offered} >= {
        "openai", "anthropic", "google", "mistral", "deepseek",
    }  # fmt: skip
    assert all(one.effective_from is not None for one in listed.offered)
    assert all(D(0) < one.pricing.input <= D("0.0001") for one in listed.offered)


def test_the_documentation_names_every_model_of_the_built_in_list() -> None:
    section = (DOCS / "prices.md").read_text().split("### The built-in list")[1].split("## ")[0]
    documented = {
        provider: cells.split(", ")
        for provider, cells in re.findall(r"^\| .* \(`(\w+)`\) \| (.*) \|$", section, re.M)
    }

    listed: dict[str, list[str]] = {}
    for one in built_in_list().offered:
        models = listed.setdefault(one.provider, [])
        models += [] if one.model in models else [one.model]
    assert documented == listed


def kept(cost: str, origin: str = "ours", **rest: Any) -> LlmPrice:
    """The price in force of gpt-4o: so much in, ten times as much out."""
    return LlmPrice(
        id="kept",
        namespace="default",
        provider="openai",
        model="gpt-4o",
        pricing=ModelPricing(D(cost), D(cost) * 10),
        currency="USD",
        source="system",
        origin=origin,
        effective_from=MAY,
        created_at=MAY,
        updated_at=MAY,
        **rest,
    )


def offered(cost: str, **rest: Any) -> OfferedPrice:
    """What a list says of gpt-4o."""
    return OfferedPrice("openai", "gpt-4o", ModelPricing(D(cost), D(cost) * 10, **rest))


@pytest.mark.parametrize(
    ("there", "one", "expected"),
    [
        pytest.param([], offered("1"), "new", id="unknown so far, is new"),
        pytest.param([kept("1")], offered("1"), "unchanged", id="the same, changes nothing"),
        pytest.param([kept("1")], offered("1.01"), "unchanged", id="1 % more, changes nothing"),
        pytest.param([kept("1")], offered("1.02"), "held", id="2 % more, is held"),
        pytest.param([kept("1")], offered("0.5"), "held", id="half, is held"),
        pytest.param([kept("0")], offered("1"), "held", id="free so far, is held"),
        pytest.param(
            [kept("1")],
            offered("1", cache_read=D("0.1")),
            "completed",
            id="with a type that had no price, completes it",
        ),
        pytest.param(
            [kept("1")],
            replace(offered("1"), currency="EUR"),
            "held",
            id="in another currency, is held",
        ),
        pytest.param(
            [kept("1", "litellm")], offered("2"), "changed", id="of the same list, is a change"
        ),
        pytest.param(
            [kept("1", effective_to=NOW)], offered("2"), "new", id="no longer in force, is new"
        ),
        pytest.param(
            [replace(kept("1"), source="manual")], offered("2"), "new", id="overridden, is new"
        ),
    ],
)
def test_a_price_that_is(there: Sequence[LlmPrice], one: OfferedPrice, expected: str) -> None:
    [proposal] = propose(there, [], PriceList(LITELLM, (one,)), NOW)

    assert proposal.verdict == expected


def test_what_was_rejected_is_not_asked_again_unless_it_says_something_else() -> None:
    rejected = HeldPrice("h", "default", offered("2"), LITELLM, "kept", "rejected", MAY, NOW, "me")

    verdicts = [
        propose([kept("1")], [rejected], PriceList(LITELLM, (one,)), NOW)[0].verdict
        for one in (offered("2"), offered("3"))
    ]

    assert verdicts == ["refused", "held"]
