"""The price of a call: names, effective dates, token types, overrides."""

from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

import pytest
from tallyman.domain.llm_price import LlmPrice, ModelPricing
from tallyman.domain.model_name import model_keys, provider_key
from tallyman.domain.price_book import PriceBook

JULY, AUGUST, OCTOBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (7, 8, 10))


def price(model: str, cost: str = "1", **rest: Any) -> LlmPrice:
    """A list's price of an OpenAI model, since July: so much in, ten times as much out."""
    given = {
        "provider": "openai",
        "source": "system",
        "effective_from": JULY,
        "pricing": ModelPricing(D(cost), D(cost) * 10),
        **rest,
    }
    return LlmPrice(
        id=f"{given['source']}-{model}-{cost}",
        namespace="default",
        model=model,
        currency="USD",
        origin="test",
        created_at=JULY,
        updated_at=JULY,
        **given,
    )


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        pytest.param("openai", "gpt-4o", ["gpt-4o"], id="a name as it is"),
        pytest.param(
            "openai", "gpt-4o-2024-08-06", ["gpt-4o-2024-08-06", "gpt-4o"], id="a dated snapshot"
        ),
        pytest.param(
            "anthropic",
            "claude-3-5-sonnet-20241022",
            ["claude-3-5-sonnet-20241022", "claude-3-5-sonnet"],
            id="a snapshot of Anthropic's",
        ),
        pytest.param("openai", "GPT-4o", ["gpt-4o"], id="in capitals"),
        pytest.param(
            "openai", "openai/gpt-4o", ["openai/gpt-4o", "gpt-4o"], id="with its provider before it"
        ),
        pytest.param(
            "gemini",
            "models/gemini-1.5-pro-002",
            ["models/gemini-1.5-pro-002", "gemini-1.5-pro-002", "gemini-1.5-pro"],
            id="Google's prefix and version",
        ),
        pytest.param(
            "bedrock",
            "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
            [
                "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
                "anthropic.claude-3-5-sonnet-20241022-v2:0",
                "anthropic.claude-3-5-sonnet-20241022",
                "anthropic.claude-3-5-sonnet",
            ],
            id="Bedrock's region and version",
        ),
        pytest.param(
            "huggingface",
            "mistralai/Mistral-7B",
            ["mistralai/mistral-7b"],
            id="another's name is no prefix of this provider",
        ),
        pytest.param(
            "mistral",
            "mistral-large-2411",
            ["mistral-large-2411"],
            id="four digits are a model of their own",
        ),
        pytest.param("openai", "", [], id="no name"),
    ],
)
def test_a_model_is_looked_for_under(provider: str, model: str, expected: list[str]) -> None:
    assert list(model_keys(provider, model)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai", "openai"),
        ("Gemini", "google"),
        ("mistralai", "mistral"),
        ("bedrock_converse", "bedrock"),
        ("amazon-bedrock", "bedrock"),
        ("vertex_ai-language-models", "vertex_ai"),
        ("llama2", "llama2"),
    ],
)
def test_a_provider_has_one_name(name: str, expected: str) -> None:
    assert provider_key(name) == expected


def test_the_price_in_force_is_that_of_the_moment() -> None:
    book = PriceBook(
        [
            price("gpt-4o", "5", effective_to=AUGUST),
            price("gpt-4o", "3", effective_from=AUGUST),
        ]
    )

    found = [
        book.price_at("openai", "gpt-4o", moment)
        for moment in (datetime(2026, 6, 30, tzinfo=UTC), JULY, AUGUST, OCTOBER)
    ]

    assert [one and one.pricing.input for one in found] == [None, D(5), D(3), D(3)]


def test_of_several_that_hold_the_one_that_began_last_is_in_force() -> None:
    book = PriceBook([price("gpt-4o", "5"), price("gpt-4o", "3", effective_from=AUGUST)])

    found = book.price_at("openai", "gpt-4o", OCTOBER)

    assert found is not None
    assert found.pricing.input == 3


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("gpt-4o", "2", id="before the lists' price"),
        pytest.param("gpt-4o-2024-08-06", "2", id="also for a snapshot that a list has"),
        pytest.param("gpt-4o-2024-05-13", "4", id="but a snapshot's own override goes before it"),
    ],
)
def test_an_override_goes(model: str, expected: str) -> None:
    book = PriceBook(
        [
            price("gpt-4o", "9"),
            price("gpt-4o-2024-08-06", "8"),
            price("gpt-4o", "2", source="manual"),
            price("gpt-4o-2024-05-13", "4", source="manual"),
        ]
    )

    found = book.price_at("openai", model, OCTOBER)

    assert found is not None
    assert found.pricing.input == D(expected)


def test_a_snapshot_has_the_price_of_its_own_before_that_of_its_family() -> None:
    book = PriceBook([price("gpt-4o", "2.5"), price("gpt-4o-2024-05-13", "5")])

    found = [
        book.price_at("openai", name, OCTOBER)
        for name in ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06")
    ]

    assert [one and one.pricing.input for one in found] == [D(5), D("2.5")]


def test_another_provider_of_the_same_model_has_no_price_by_it() -> None:
    assert PriceBook([price("gpt-4o")]).price_at("azure", "gpt-4o", OCTOBER) is None


@pytest.mark.parametrize(
    ("token_type", "expected"),
    [
        pytest.param("request", "2", id="what is sent, as input"),
        pytest.param("response", "8", id="what is answered, as output"),
        pytest.param("cache_read", "0.5", id="what was read from a cache, at its own price"),
        pytest.param("cache_write", "2", id="without a price of its own, as input"),
        pytest.param("reasoning", "8", id="without a price of its own, as output"),
        pytest.param("audio", None, id="a type that there is not, not at all"),
    ],
)
def test_a_token_is_priced_by_its_type(token_type: str, expected: str | None) -> None:
    pricing = ModelPricing(D(2), D(8), cache_read=D("0.5"))

    assert pricing.of(token_type) == (None if expected is None else D(expected))


def test_the_changes_of_a_time_are_those_between_its_ends() -> None:
    book = PriceBook(
        [
            price("gpt-4o", "5", effective_to=AUGUST),
            price("gpt-4o", "3", effective_from=AUGUST, effective_to=OCTOBER),
            price("o3", "1", effective_to=datetime(2026, 9, 1, tzinfo=UTC)),
        ]
    )

    assert book.changes([("openai", "gpt-4o-2024-08-06")], JULY, OCTOBER) == [AUGUST]
    assert book.changes([("openai", "gpt-4o")], None, None) == [JULY, AUGUST, OCTOBER]
