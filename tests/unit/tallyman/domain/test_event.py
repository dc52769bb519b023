"""What an event must be before anything is stored, and how it is told what is wrong."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict
from tallyman.domain.event import CloudEvent, parse_event, parse_events
from tallyman.errors import InvalidEvent, InvalidParameter

EVENT = {"id": "1", "source": "kong", "type": "llm.tokens", "subject": "acme"}


def body(data: str | None = None, **changes: Any) -> bytes:
    text = json.dumps({**EVENT, **changes})
    return (text if data is None else f'{text[:-1]},"data":{data}}}').encode()


def broken(sent: bytes) -> InvalidParameter:
    with pytest.raises(InvalidEvent) as caught:
        parse_event(sent)
    [parameter] = caught.value.parameters
    return parameter


def test_an_event_needs_only_its_identity_type_and_subject() -> None:
    expected = CloudEvent("1", "kong", "llm.tokens", "acme")

    assert asdict(parse_event(body())) == asdict(expected)


def test_null_stands_for_an_absent_time_schema_and_data() -> None:
    event = parse_event(body(time=None, dataschema=None, data="null"))

    assert (event.time, event.dataschema, bytes(event.data)) == (None, None, b"null")


@pytest.mark.parametrize("sequence", ["0", "9" * 20])
def test_a_sequence_has_up_to_20_digits(sequence: str) -> None:
    assert parse_event(body(sequence=sequence)).sequence == sequence


def test_unknown_extension_attributes_are_dropped() -> None:
    assert asdict(parse_event(body(traceparent="00-1"))) == asdict(parse_event(body()))


@pytest.mark.parametrize(
    ("sent", "field", "rule", "extra"),
    [
        pytest.param(b'{"source":"s"}', "id", "required", {}, id="id is required"),
        pytest.param(body(id=5), "id", "is_string", {}, id="id is a string"),
        pytest.param(body(id=None), "id", "is_string", {}, id="id is not null"),
        pytest.param(body(id=""), "id", "min_length", {"minimum": 1}, id="id is not empty"),
        pytest.param(
            body(subject="x" * 257),
            "subject",
            "max_length",
            {"maximum": 256},
            id="subject is short",
        ),
        pytest.param(
            body(specversion="2.0"),
            "specversion",
            "enum",
            {"choices": ["1.0"]},
            id="CloudEvents 1.0",
        ),
        pytest.param(
            body(datacontenttype="text/xml"),
            "datacontenttype",
            "enum",
            {"choices": ["application/json"]},
            id="data is JSON",
        ),
        pytest.param(body(time="2026-11-21"), "time", "is_date_time", {}, id="time is no date"),
        pytest.param(body(time=5), "time", "is_date_time", {}, id="time is no number"),
        pytest.param(
            body(time="2026-11-21T00:00:00"), "time", "is_date_time", {}, id="time has a zone"
        ),
        pytest.param(
            body(time="1969-12-31T23:59:59Z"),
            "time",
            "is_date_time",
            {},
            id="time is not before 1970",
        ),
        pytest.param(
            body(time="2200-01-01T00:00:00Z"), "time", "is_date_time", {}, id="time is before 2200"
        ),
        pytest.param(
            body(time="0001-01-01T00:00:00+14:00"),
            "time",
            "is_date_time",
            {},
            id="time is in range",
        ),
        pytest.param(body(sequence="x"), "sequence", "matches_regex", {}, id="sequence is digits"),
        pytest.param(
            body(sequence=""), "sequence", "matches_regex", {}, id="sequence is not empty"
        ),
        pytest.param(body(sequence="1" * 21), "sequence", "matches_regex", {}, id="21 digits"),
        pytest.param(body(sequence="١"), "sequence", "matches_regex", {}, id="digits of ASCII"),
        pytest.param(body(sequence=1), "sequence", "is_string", {}, id="sequence is a text"),
        pytest.param(body("5"), "data", "is_object", {}, id="data is an object"),
        pytest.param(body("[]"), "data", "is_object", {}, id="data is no array"),
        pytest.param(
            body(json.dumps({"a": "x" * 65536})),
            "data",
            "max_length",
            {"maximum": 65536},
            id="data is limited",
        ),
        pytest.param(
            body(json.dumps({"a": {"b" * 257: 1}})),
            "data.a",
            "max_length",
            {"maximum": 256},
            id="keys are limited",
        ),
        pytest.param(body('{"a":NaN}'), "body", "invalid", {}, id="NaN is not JSON"),
        pytest.param(b'{"id":"\xff"}', "body", "invalid", {}, id="the envelope is UTF-8"),
        pytest.param(
            body('{"a":"?"}').replace(b"?", b"\xff"), "data", "invalid", {}, id="data is UTF-8"
        ),
        pytest.param(body('{"a":"\\ud800"}'), "body", "invalid", {}, id="no lone surrogates"),
        pytest.param(b"5", "body", "is_object", {}, id="an event is an object"),
        pytest.param(b"", "body", "invalid", {}, id="nothing is no event"),
    ],
)
def test_a_bad_event_is_refused_with_the_field_and_the_rule(
    sent: bytes, field: str, rule: str, extra: dict[str, Any]
) -> None:
    parameter = broken(sent)

    assert (parameter.field, parameter.rule, parameter.extra) == (field, rule, extra)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ('{"a":12345678901234567890.12}', "data.a"),
        ('{"a":[{"b c":1e400}]}', "data.a[0].b c"),
        ('{"a":1e-400}', "data.a"),
        ('{"a":1E%s}' % ("4" * 40), "data.a"),
        ('{"a":0e-%s}' % ("4" * 40), "data.a"),
        ('{"a":{"b":[1,18446744073709551616]}}', "data.a.b[1]"),
        ('{"a":-9223372036854775809}', "data.a"),
        ('{"a":%s}' % ("9" * 5000), "data.a"),
        ('{"a":0.1234567890123456789}', "data.a"),
    ],
)
def test_a_number_that_would_be_rounded_is_refused_by_name(data: str, field: str) -> None:
    parameter = broken(body(data))

    assert (parameter.field, parameter.rule) == (field, "is_number")
    assert "send it as a string" in parameter.reason


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a":1e400,"b":"\xff"}', id="broken UTF-8 behind a number"),
        pytest.param(b'{"a":1e400,"b":"\xc3"}', id="a half character behind a number"),
        pytest.param(b'{"a":1e400,"a":1}', id="a number that is named twice"),
    ],
)
def test_what_stands_behind_a_number_that_is_not_kept_makes_it_no_event(data: bytes) -> None:
    assert broken(body("@").replace(b"@", data)).field.startswith("data")


@pytest.mark.parametrize(
    "number",
    ["18446744073709551615", "-9223372036854775808", "0.30000000000000004", "1e22", "1.00", "-0.0"],
)
def test_a_number_that_is_kept_exactly_is_taken(number: str) -> None:
    assert bytes(parse_event(body(f'{{"a":{number}}}')).data).decode() == f'{{"a":{number}}}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_that_was_written_shortest_is_taken(number: float) -> None:
    parse_event(body(f'{{"a":{number!r}}}'))


@pytest.mark.parametrize("depth", [33, 2000])
def test_data_nested_too_deep_is_refused(depth: int) -> None:
    parameter = broken(body('{"a":' * depth + "1" + "}" * depth))

    assert parameter.rule in ("max", "invalid")


def test_data_may_be_nested_32_deep() -> None:
    parse_event(body('{"a":' * 32 + "1" + "}" * 32))


def test_a_batch_names_every_bad_event_and_takes_none() -> None:
    sent = b"[%s,%s,%s,5]" % (body(), body(id=5), body("7"))

    with pytest.raises(InvalidEvent) as caught:
        parse_events(sent)

    assert [parameter.field for parameter in caught.value.parameters] == [
        "[1].id",
        "[2].data",
        "[3]",
    ]


@pytest.mark.parametrize("sent", [b"{}", b"[", b"5", b"[" * 5000])
def test_a_body_that_is_no_array_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_events(sent)

    assert caught.value.parameters[0].rule == "is_array"


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_refused_and_never_crashes(sent: bytes) -> None:
    for parse in (parse_event, parse_events):
        with suppress(InvalidEvent):
            parse(sent)
