"""Recorded and made-up log entries against the events that they must become.

The expectations are written by hand from docs/counting.md, and never taken from the code.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallyman.domain.event import parse_event
from tallyman_kong import usage
from tallyman_kong.entry import decode
from tallyman_kong.event_rows import to_json

from tests.contract import tables

CASES = [
    *[pytest.param(case, id=f"as recorded: {case.name}") for case in tables.recorded_cases()],
    *[pytest.param(case, id=f"reader: {case.name}") for case in tables.cases_with_the_reader()],
    *[pytest.param(c, id=f"recording: {c.name}") for c in tables.cases_of_every_recording()],
    *[pytest.param(case, id=case.name) for case in tables.synthetic_cases()],
]
CREDENTIALS = (
    *("authorization", "proxy-authorization", "cookie"),
    *("apikey", "api-key", "x-api-key", "x-goog-api-key"),
)


def _text(events: tuple[tables.Event, ...]) -> list[str]:
    """Tell 1 from True and 23 from 23.0, which are equal in Python and not in JSON."""
    return [json.dumps(event, indent=1, sort_keys=True) for event in events]


@pytest.mark.parametrize("case", CASES)
def test_an_entry_becomes_the_events_written_for_it(case: tables.Case) -> None:
    reading = usage.read(case.entry, usage.configuration(case.configuration))

    assert _text(reading.events) == _text(case.events)
    assert reading.invalid_counts == case.invalid_counts
    assert (reading.bad is not None) == case.bad


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_of_an_entrys_text_is_all_that_its_events_need(case: tables.Case) -> None:
    configuration = usage.configuration(case.configuration)

    reading = usage.read(decode(json.dumps(case.entry)), configuration)

    assert reading == usage.read(case.entry, configuration)


def test_what_a_prompt_says_is_not_even_read() -> None:
    entry = tables.golden_entry("openai_chat")
    entry["ai"]["proxy"]["payload"] = {"request": "a secret"}
    entry["request"]["querystring"] = {"apikey": "a secret"}

    assert "a secret" not in repr(decode(json.dumps(entry)))


def test_reading_an_entry_does_not_change_it() -> None:
    entry = tables.golden_entry("openai_chat")

    usage.read(entry, usage.configuration({"split_cached_tokens": True}))

    assert entry == tables.golden_entry("openai_chat")


def test_half_a_surrogate_pair_becomes_text_that_can_be_sent() -> None:
    entry = tables.golden_entry("openai_chat")
    entry["consumer"]["username"] = "al\ud83dice"
    entry["request"]["headers"]["x-tallyman-task"] = "\ud83d\ude00 \udc00"

    events = usage.read(entry, usage.configuration(None)).events

    assert {event["subject"] for event in events} == {"al\ufffdice"}
    assert {event["data"]["task"] for event in events} == {"\U0001f600 \ufffd"}


TEXTS = st.text(max_size=50) | st.text("aé\U0001f600\x00\ud83d", min_size=1).map(
    lambda written: written * (70_000 // len(written))
)


@given(texts=st.data())
@settings(max_examples=60, deadline=None)
def test_no_text_of_an_entry_makes_an_event_that_the_collector_refuses(
    texts: st.DataObject,
) -> None:
    entry = tables.golden_entry("openai_chat")
    places = [
        (entry["consumer"], ("id", "username", "custom_id")),
        (entry["authenticated_entity"], ("id",)),
        (entry["service"], ("name",)),
        (entry["route"], ("name",)),
        (entry["request"]["headers"], ("x-tallyman-task", "x-tallyman-feature")),
        (entry["ai"]["proxy"]["meta"], ("provider_name", "request_model", "response_model")),
        (entry, ("workspace_name",)),
        (entry["request"], ("id",)),
    ]
    for record, names in places:
        record |= {name: texts.draw(TEXTS) for name in names if texts.draw(st.booleans())}
    if texts.draw(st.booleans()):
        entry["response"]["headers"]["x-kong-llm-model"] = f"a/{texts.draw(TEXTS)}"
    entry["ai"]["tallyman"] = {"model": texts.draw(TEXTS), "usage": {}}
    if texts.draw(st.booleans()):
        entry["ai"][texts.draw(TEXTS)] = entry["ai"]["proxy"]
    where = texts.draw(st.sampled_from(["consumer", "credential", "header"]))
    configuration = usage.configuration(
        {"subject": {"look_up_value_in": where, "field": "x-tallyman-task"}}
        if where == "header"
        else {"subject": {"look_up_value_in": where}}
    )

    reading = usage.read(entry, configuration)

    assert (reading.bad is None) == bool(reading.events)
    for event in reading.events:
        parse_event(to_json(event).encode())


@pytest.mark.parametrize("header", CREDENTIALS)
def test_a_credential_is_neither_a_subject_nor_an_attribute(header: str) -> None:
    name = header.title()
    attribute = {"source": "header", "look_up_value_in": name, "event_property_name": "task"}
    subject = {"look_up_value_in": "header", "field": name}

    with pytest.raises(ValueError, match=f"(?i){header}"):
        usage.configuration({"attributes": [attribute]})
    with pytest.raises(ValueError, match=f"(?i){header}"):
        usage.configuration({"subject": subject})


def _names(folder: str) -> set[str]:
    return {Path(path).stem for path in (tables.GOLDEN / folder).glob("*.json")}


def test_every_recorded_entry_and_answer_has_its_events_written_down() -> None:
    entries = {row["case"] for row in tables.read_table("golden-without-reader.md")}
    answers = {row["recording"] for row in tables.read_table("recordings.md")}

    assert entries == _names("kong-3.9.3")
    assert answers == _names("chunks")
