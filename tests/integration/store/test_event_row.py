"""What is stored as it came is stored as if it had been written anew, field by field."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tallyman.domain.event import parse_event
from tallyman.errors import InvalidEvent
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_row import as_it_came
from tallyman.store.events import EventStore, Received

from tests.rigs.recordings import spooled

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
COMPARED = (
    "type, subject, time, source, id, dataschema, data, nodeid, sequence, ingested_at, tokens, "
    "tokens_text, token_type, model, provider, usage_source, waived_tokens"
)
EVENT: Mapping[str, Any] = {
    "nodeid": "kong-1",
    "sequence": "000000000000000007",
    "specversion": "1.0",
    "id": "c0ffee:proxy:request",
    "source": "kong",
    "type": "llm.tokens",
    "subject": "acme",
    "time": "2026-11-21T09:24:33.353Z",
    "datacontenttype": "application/json",
    "data": {"tokens": 23, "type": "request", "model": "gpt-4o", "waived_tokens": 2},
}


def body(**changes: object) -> bytes:
    """As the plugin writes it."""
    return json.dumps({**EVENT, **changes}, separators=(",", ":"), ensure_ascii=False).encode()


async def stored(clickhouse: ClickHouse, line: bytes, text: bytes) -> dict[str, Any]:
    """The row of an event that was stored with this line."""
    namespace = uuid.uuid4().hex
    received = Received(namespace, parse_event(text), NOW, "topic/3", 17, line)
    accepted = await EventStore(clickhouse).accept([received])
    assert accepted.new == 1
    where = "namespace = {namespace:String} AND place = 17 AND door = 'topic/3'"
    sql = f"SELECT {COMPARED} FROM events WHERE {where}"
    rows = await clickhouse.rows(sql, {"namespace": namespace})
    assert len(rows) == 1
    return dict(zip(COMPARED.split(", "), rows[0], strict=True))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e15)
    | st.text(max_size=20)
    | st.sampled_from(["12", "1.5", " 7", "provider", "NaN", "-3"])
)
NAMES = st.sampled_from([*EVENT["data"], "usage_source", "waived_tokens", "other"])
TEXTS = st.text(min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    data=st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=6),
    texts=st.fixed_dictionaries(
        {}, optional={"id": TEXTS, "source": TEXTS, "subject": TEXTS, "dataschema": TEXTS}
    ),
)
@example(data={"waived_tokens": True, "tokens": "12"}, texts={})
@example(data={"waived_tokens": "12"}, texts={"subject": 'a "quoted"\\ name'})
@example(data={"waived_tokens": 2**63, "usage_source": None}, texts={"id": "é\u2028x"})
async def test_what_is_stored_as_it_came_is_as_if_it_were_written_anew(
    clickhouse: ClickHouse, data: dict[str, Any], texts: dict[str, str]
) -> None:
    text = body(data=data, **texts)
    try:
        line = as_it_came(parse_event(text), text)
    except InvalidEvent:
        return

    as_it_was = await stored(clickhouse, line, text)

    assert as_it_was == await stored(clickhouse, b"", text)


def test_what_the_plugin_spools_is_stored_as_it_came(tmp_path: Path) -> None:
    sent = spooled(tmp_path)

    assert [as_it_came(parse_event(one), one) for one in sent] == sent


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(body(namespace="of-others"), id="an attribute of which we know nothing"),
        pytest.param(body(place=99, door="topic/9"), id="what would say where it came from"),
        pytest.param(body(time="2026-11-21T10:24:33.353+01:00"), id="a time in a zone"),
        pytest.param(body(time="2026-11-21T09:24:33.3531234Z"), id="more than microseconds"),
        pytest.param(body(id='say "x"'), id="an escape"),
        pytest.param(body(data=None), id="no data"),
        pytest.param(body() + b"\n", id="more behind it"),
    ],
)
async def test_what_clickhouse_might_read_otherwise_is_written_anew(
    clickhouse: ClickHouse, text: bytes
) -> None:
    line = as_it_came(parse_event(text), text)

    assert line == b""
    assert (await stored(clickhouse, line, text))["id"] == parse_event(text).id


async def test_a_batch_with_an_attribute_that_is_sent_twice_is_stored_and_the_last_counts(
    clickhouse: ClickHouse,
) -> None:
    twice = body(id="second").replace(b"}}", b'},"subject":"late"}')
    namespace = uuid.uuid4().hex
    batch = [
        Received(
            namespace, parse_event(text), NOW, "topic/4", place, as_it_came(parse_event(text), text)
        )
        for place, text in enumerate((body(), twice))
    ]
    assert all(one.line for one in batch)

    assert (await EventStore(clickhouse).accept(batch)).new == 2

    rows = await clickhouse.rows(
        "SELECT subject, place FROM events FINAL WHERE namespace = {namespace:String} ORDER BY place",
        {"namespace": namespace},
    )
    assert rows == [("acme", 0), ("late", 1)]
