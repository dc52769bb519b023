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
