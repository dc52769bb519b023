"""The demo's traffic is what Kong recorded, but for who called and when."""

import json
from collections import Counter
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest
from tallyman.demo import traffic
from tallyman_kong.usage import configuration, read

GOLDEN = Path(__file__).parents[3] / "golden"
MONTH = datetime(2026, 10, 1, tzinfo=UTC)


def test_each_recorded_call_is_an_entry_of_a_real_kong() -> None:
    lines = (resources.files("tallyman.demo") / "recorded.jsonl").read_text().splitlines()
    recorded = [json.loads(line)["entry"] for line in lines]
    for entry in recorded:
        entry.get("ai", {}).pop("tallyman", None)
        if entry.get("ai") == {}:
            del entry["ai"]
    golden = [
        json.loads(path.read_text())["serialized_log"]
        for path in (GOLDEN / "kong-3.9.3").glob("*.json")
    ]

    assert recorded
    assert all(entry in golden for entry in recorded)


def test_each_run_plays_the_same_calls_with_request_ids_of_their_own() -> None:
    first, second = list(traffic.entries(MONTH)), list(traffic.entries(MONTH))

    assert first == second
    assert len({entry["request"]["id"] for entry in first}) == len(first) == 32


@pytest.mark.parametrize(
    ("now", "month"),
    [
        pytest.param("2026-11-21T09:00:00", "2026-10-01", id="the one before"),
        pytest.param("2026-11-02T23:59:59", "2026-09-01", id="October may still get late usage"),
        pytest.param("2026-11-03T00:00:00", "2026-10-01", id="October is over for two days"),
        pytest.param("2026-01-21T09:00:00", "2025-12-01", id="of the year before"),
    ],
)
def test_the_month_played_is_over(now: str, month: str) -> None:
    begun = traffic.month(datetime.fromisoformat(now).replace(tzinfo=UTC))

    assert begun == datetime.fromisoformat(month).replace(tzinfo=UTC)


def test_the_tokens_are_those_that_the_providers_reported() -> None:
    """Worked out by hand: calls × what the mock provider reported for one of them."""
    tokens: Counter[tuple[str, str]] = Counter()
    for entry in traffic.entries(MONTH):
        for event in read(entry, configuration(None)).events:
            tokens[event["subject"], event["data"]["type"]] += event["data"]["tokens"]

    assert tokens == {
        ("acme-corp", "request"): 10 * 23 + 2 * 37,
        ("acme-corp", "response"): 10 * 11 + 2 * 15,
        ("globex", "request"): 5 * 37 + 3 * 19 + 30,
        ("globex", "response"): 5 * 15 + 3 * (10 + 3) + 8,
        ("initech", "request"): 4 * 23 + 2 * 19 + 3 * 23,
        ("initech", "response"): 4 * 11 + 2 * (10 + 3) + 3 * 11,
        ("anonymous", "request"): 0,
        ("anonymous", "response"): 0,
    }
