"""What an event is to a meter, and why it may not count."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.event import CloudEvent, parse_event
from tallyman.domain.event_value import EventProblem, number_of, problems, text_of
from tallyman.domain.meter import Aggregation, Meter, parse_path

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def meter(aggregation: Aggregation = Aggregation.SUM, **changes: Any) -> Meter:
    attributes: dict[str, Any] = {
        "id": "m",
        "namespace": "default",
        "key": "tokens",
        "name": "Tokens",
        "aggregation": aggregation,
        "event_type": "t",
        "value_property": "$.tokens",
        "dimensions": {"kind": "$.kind"},
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Meter(**attributes | changes)


def event(data: str) -> CloudEvent:
    envelope = '{"id": "1", "source": "s", "type": "t", "subject": "a", "data": %s}'
    return parse_event((envelope % data).encode())


def codes(data: str, asked: Meter) -> list[str]:
    return [problem.code for problem in problems(event(data), [asked])]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ('{"tokens": 5}', None),
        ('{"tokens": -0.5}', None),
        ('{"tokens": "5e3"}', None),
        ("{}", "missing_value"),
        ("null", "missing_value"),
        ('{"tokens": null}', "missing_value"),
        ('{"tokens": ""}', "missing_value"),
        ('{"tokens": [5]}', "missing_value"),
        ('{"tokens": {"a": 5}}', "missing_value"),
        ('{"tokens": true}', "invalid_value"),
        ('{"tokens": "five"}', "invalid_value"),
        ('{"tokens": "NaN"}', "invalid_value"),
        ('{"tokens": "Infinity"}', "invalid_value"),
        ('{"tokens": 1e300}', "invalid_value"),
        ('{"tokens": "5", "tokens": "x"}', None),
    ],
)
def test_an_event_without_a_number_is_not_counted_and_says_why(data: str, code: str | None) -> None:
    assert codes(data, meter()) == ([code] if code else [])


def test_a_count_counts_every_event_and_a_unique_count_every_text() -> None:
    assert codes("{}", meter(Aggregation.COUNT, value_property=None)) == []
    assert codes('{"tokens": "five"}', meter(Aggregation.UNIQUE_COUNT)) == []
    assert codes('{"tokens": true}', meter(Aggregation.UNIQUE_COUNT)) == []
    assert codes("{}", meter(Aggregation.UNIQUE_COUNT)) == ["missing_value"]


def test_an_event_whose_type_no_meter_reads_says_so() -> None:
    assert problems(event("{}"), [meter(event_type="other")]) == [
        EventProblem(
            "no_meter",
            f"no meter counts events of the type {event('{}').type}: the event_type of a meter "
            "must be this",
            {"event_type": event("{}").type},
        )
    ]


def test_a_meter_has_nothing_to_say_of_events_that_it_does_not_read() -> None:
    assert codes('{"kind": "b"}', meter(only=("kind", "a"))) == []
    assert codes('{"kind": "a"}', meter(only=("kind", "a"))) == ["missing_value"]


def test_a_problem_names_the_meter_and_the_path() -> None:
    assert problems(event('{"tokens": "x"}'), [meter()]) == [
        EventProblem(
            "invalid_value",
            "the value at $.tokens is not a number: meter tokens does not count it",
            {"meter": "tokens", "value_property": "$.tokens"},
        )
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("$.s", "x"),
        ("$.n", "5"),
        ("$.b", "true"),
        ("$.list[1]['a b']", "deep"),
        ("$.list[9]", ""),
        ("$.list.a", ""),
        ("$.list", ""),
        ("$.s.a", ""),
        ("$.no.way", ""),
    ],
)
def test_a_path_finds_text(path: str, text: str) -> None:
    data = {"s": "x", "n": 5, "b": True, "list": [0, {"a b": "deep"}]}

    assert text_of(data, parse_path(path)) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", "5"),
        ("+5", "5"),
        ("-0.10", "-0.10"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1e3", "1000"),
        ("1E-7", "0.0000001"),
        ("0.1234567890123456789", "0.123456789012345678"),
        ("-1e-19", "0"),
        ("9" * 40, "9" * 40),
    ],
)
def test_a_numeric_text_is_a_number_cut_after_18_places(text: str, number: str) -> None:
    assert number_of(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "abc",
        "NaN",
        "inf",
        "0x1",
        "1_000",
        "1,5",
        "-",
        "1e",
        "1e40",
        "٣",
        "1" * 41,
    ],
)
def test_any_other_text_is_no_number(text: str) -> None:
    assert number_of(text) is None


@given(st.text() | st.from_regex(r"[+-]?[0-9]{0,50}\.?[0-9]{0,50}(e-?[0-9]{1,3})?", fullmatch=True))
def test_a_number_is_never_beyond_what_the_store_holds(text: str) -> None:
    number = number_of(text)

    if number is not None:
        assert number.copy_abs() < Decimal(10) ** 40
        assert number == number.quantize(Decimal(10) ** -18) if abs(number) < 10**9 else True


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**15), max_value=10**15
    )
)
def test_a_number_survives_as_a_string(number: Decimal) -> None:
    assert number_of(json.loads(json.dumps(f"{number:f}"))) == number


def test_an_event_without_waived_tokens_lacks_nothing() -> None:
    ours = meter(key="tallyman_llm_waived_tokens", value_property="$.waived_tokens")

    assert codes('{"tokens": 5}', ours) == []
    assert codes('{"waived_tokens": "x"}', ours) == ["invalid_value"]
    assert codes('{"tokens": 5}', replace(ours, key="my_waived_tokens")) == ["missing_value"]
