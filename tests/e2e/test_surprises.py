"""What surprised those who followed the walkthroughs, and the answer that each of them gets here.

One collector for all; each test has subjects, keys and event types of its own.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from tallyman.demo import processes

from tests.rigs.rest import Rest

numbers = count(1)
NUMERIC = r"^\-?[0-9]+(\.[0-9]+)?$"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    directory = tmp_path_factory.mktemp("surprises")
    key = processes.create_key(directory / "data", "test", "admin")
    with processes.collector(directory / "data", directory / "serve.log") as address:
        yield Rest(address, key)


def event(event_type: str, **changes: Any) -> dict[str, Any]:
    """A usage event of 100 tokens, as the walkthrough's application sends them."""
    return {
        "specversion": "1.0",
        "id": f"event-{next(numbers)}",
        "source": "ai-text-api",
        "type": event_type,
        "subject": "user-001",
        "data": {"total_tokens": 100},
        **changes,
    }


def meter(key: str, **changes: Any) -> dict[str, Any]:
    """A meter of all tokens of an event type that is named like it."""
    return {
        "key": key,
        "name": "Tokens",
        "event_type": key,
        "aggregation": "sum",
        "value_property": "$.total_tokens",
        **changes,
    }


def why(answer: Any) -> list[tuple[str, str, str]]:
    """Field, rule and reason of what was refused."""
    return [(it["field"], it["rule"], it["reason"]) for it in answer["invalid_parameters"]]


def test_an_event_type_that_no_meter_reads_is_said_where_the_event_is_listed(
    collector: Rest,
) -> None:
    collector.post("meters", meter("llm_token_usage"), 201)
    collector.post("events", event("llm_tokens_usage"), 202)

    (item,) = collector.get("events?filter[type]=llm_tokens_usage")["data"]
    assert item["validation_errors"] == [
        {
            "code": "no_meter",
            "message": "no meter counts events of the type llm_tokens_usage: "
            "the event_type of a meter must be this",
            "attributes": {"event_type": "llm_tokens_usage"},
        }
    ]


def test_a_value_that_is_not_where_the_meter_looks_is_said_where_the_event_is_listed(
    collector: Rest,
) -> None:
    collector.post("meters", meter("misplaced"), 201)
    collector.post("events", event("misplaced", data={"usage": {"total_tokens": 100}}), 202)

    (item,) = collector.get("events?filter[type]=misplaced")["data"]
    assert [error["message"] for error in item["validation_errors"]] == [
        "the event has no value at $.total_tokens: meter misplaced does not count it"
    ]


def test_a_subject_that_no_customer_has_is_said_where_the_event_is_listed(collector: Rest) -> None:
    customer = {
        "key": "user-042",
        "name": "Alice",
        "usage_attribution": {"subject_keys": ["user-042"]},
    }
    collector.post("customers", customer, 201)
    collector.post("events", event("mapped", subject="user_042"), 202)
    collector.post("events", event("mapped", subject="user-042"), 202)

    items = collector.get("events?filter[type]=mapped&sort=time asc")["data"]
    assert items[0]["customer"] is None
    assert "user_042" in items[0]["unattributed"]["message"]
    assert items[1]["customer"] is not None


def test_a_key_with_a_hyphen_is_refused_with_the_rule(collector: Rest) -> None:
    refused = collector.ask("POST", "meters", meter("llm-total-tokens"))

    assert refused.status == 400
    assert why(refused.body) == [
        ("key", "matches_regex", "must match pattern '^[a-z0-9]+(?:_[a-z0-9]+)*$'")
    ]


def test_a_wrong_token_is_told_from_a_missing_one(collector: Rest) -> None:
    wrong = Rest(collector.address, "kpat_wrong").ask("GET", "meters")

    assert wrong.status == 401
    assert wrong.body["detail"] == "the API key is not known, or was revoked"


def feature(collector: Rest, key: str) -> str:
    """The id of a feature over a meter of its own."""
    made = collector.post("meters", meter(key), 201)
    body = {"key": key, "name": "AI Tokens", "meter": {"id": made["id"]}}
    return str(collector.post("features", body, 201)["id"])


def plan(key: str, feature_id: str, /, **card: Any) -> dict[str, Any]:
    """A plan with one rate card: 0.000002 a token."""
    rate_card = {
        "key": "ai_tokens",
        "name": "AI Tokens",
        "feature": {"id": feature_id},
        "billing_cadence": "P1M",
        "price": {"type": "unit", "amount": "0.000002"},
        **card,
    }
    return {
        "key": key,
        "name": "Starter",
        "currency": "USD",
        "billing_cadence": "P1M",
        "phases": [{"key": "default", "name": "Default", "rate_cards": [rate_card]}],
    }


def test_a_price_per_token_is_shown_per_million_too(collector: Rest) -> None:
    """ "Price per unit means per single token: this trips up almost everyone." """
    made = collector.post("plans", plan("per_token", feature(collector, "ai_tokens")), 201)

    (card,) = made["phases"][0]["rate_cards"]
    assert card["price"] == {"type": "unit", "amount": "0.000002", "amount_per_million": "2"}


def test_a_price_per_million_is_billed_by_the_million_and_shown_per_token(collector: Rest) -> None:
    config = {"operation": "divide", "conversion_factor": "1000000"}
    given = plan("per_million", feature(collector, "millions"), key="millions", unit_config=config)
    given["phases"][0]["rate_cards"][0]["price"]["amount"] = "2"
    made = collector.post("plans", given, 201)

    price = made["phases"][0]["rate_cards"][0]["price"]
    assert (price["amount_per_unit"], price["amount_per_million"]) == ("0.000002", "2")


def test_a_rate_card_whose_key_is_not_its_features_is_refused_with_the_rule(
    collector: Rest,
) -> None:
    refused = collector.ask("POST", "plans", plan("mismatch", feature(collector, "other_tokens")))

    assert refused.status == 400
    assert why(refused.body) == [
        (
            "phases[0].rate_cards[0].key",
            "invalid",
            "the key must be that of the feature, other_tokens",
        )
    ]
    (issue,) = refused.body["extensions"]["validationErrors"]
    assert issue["code"] == "rate_card_key_feature_key_mismatch"


@pytest.mark.parametrize(
    ("key", "amount", "reason"),
    [
        pytest.param(
            "a_number",
            0.000002,
            'must be a string: write the number in quotes, such as "0.000003"',
            id="JSON may round numbers",
        ),
        pytest.param("a_comma", "0,000002", f"must match pattern '{NUMERIC}'", id="a comma"),
        pytest.param("a_sign", "$0.000002", f"must match pattern '{NUMERIC}'", id="a sign"),
    ],
)
def test_a_price_that_is_no_numeric_string_is_refused_and_named(
    collector: Rest, key: str, amount: Any, reason: str
) -> None:
    price = {"type": "unit", "amount": amount}
    given = plan(key, feature(collector, key), key=key, price=price)
    refused = collector.ask("POST", "plans", given)

    assert refused.status == 400
    ((field, _, said),) = why(refused.body)
    assert (field, said) == ("phases[0].rate_cards[0].price.amount", reason)


def test_a_subject_that_another_customer_has_is_refused_with_that_customer(
    collector: Rest,
) -> None:
    one = {"key": "one", "name": "One", "usage_attribution": {"subject_keys": ["shared"]}}
    collector.post("customers", one, 201)
    refused = collector.ask("POST", "customers", {**one, "key": "two", "name": "Two"})

    assert refused.status == 409
    assert [(field, reason) for field, _, reason in why(refused.body)] == [
        (
            "usage_attribution.subject_keys[0]",
            "is taken: the subject shared belongs to the customer one",
        )
    ]
