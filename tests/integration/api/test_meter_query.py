"""`POST /meters/{meterId}/query`: what is asked, how it is answered, and what is refused."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from tallyman.api.meter_query import write_csv
from tallyman.api.state import EVENTS, METERS
from tallyman.api.wire import write_number
from tallyman.config import Settings
from tallyman.domain.meter import MeterQuery, MeterRow

from tests.integration.api.conftest import Client

QUERY = "/api/v3/openmeter/meters/tokens/query"


@pytest.fixture
async def metered(client: Client) -> Client:
    """Three events of two subjects, and a meter."""
    meter = {
        "key": "tokens",
        "name": "Tokens",
        "aggregation": "sum",
        "event_type": "call",
        "value_property": "$.tokens",
        "dimensions": {"model": "$.model"},
    }
    assert (await client.post("/api/v3/openmeter/meters", json=meter)).status == 201
    events = [
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "test",
            "type": "call",
            "subject": subject,
            "time": f"2026-04-13T10:30:0{number}Z",
            "data": {"tokens": tokens, "model": model},
        }
        for number, (subject, tokens, model) in enumerate(
            [("acme", 10, "gpt-4o"), ("acme", 20, "claude"), ("other, inc", 5, "gpt-4o")]
        )
    ]
    assert (await client.post("/api/v3/openmeter/events", json=events)).status == 202
    return client


async def test_the_whole_is_one_row(metered: Client) -> None:
    answer = await metered.post(QUERY)

    assert await answer.json() == {
        "data": [
            {
                "value": "35",
                "from": "2026-04-13T10:30:00Z",
                "to": "2026-04-13T10:31:00Z",
                "dimensions": {},
            }
        ]
    }


async def test_it_is_split_by_subject_and_dimension(metered: Client) -> None:
    answer = await metered.post(QUERY, json={"group_by_dimensions": ["model", "subject", "model"]})

    rows = (await answer.json())["data"]
    assert sorted((*row["dimensions"].items(), row["value"]) for row in rows) == [
        (("model", "claude"), ("subject", "acme"), "20"),
        (("model", "gpt-4o"), ("subject", "acme"), "10"),
        (("model", "gpt-4o"), ("subject", "other, inc"), "5"),
    ]


async def test_csv_has_the_subject_first_and_the_value_last(metered: Client) -> None:
    answer = await metered.post(
        QUERY,
        json={"group_by_dimensions": ["model", "subject"]},
        headers={"Accept": "text/csv"},
    )

    assert answer.content_type == "text/csv"
    lines = (await answer.text()).splitlines()
    assert lines[0] == "from,to,subject,model,value"
    assert '2026-04-13T10:30:00Z,2026-04-13T10:31:00Z,"other, inc",gpt-4o,5' in lines
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("application/xml", "application/json"),
    ],
)
async def test_the_form_is_the_preferred_one(
    metered: Client, accept: str, content_type: str
) -> None:
    answer = await metered.post(QUERY, json={}, headers={"Accept": accept})

    assert answer.content_type == content_type


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"granularity": "PT5M"}, "invalid_window_size", "granularity"),
        ({"time_zone": "Mars/Olympus"}, "invalid_time_zone", "time_zone"),
        ({"group_by_dimensions": ["region"]}, "invalid_group_by", "group_by_dimensions"),
        (
            {"filters": {"dimensions": {"region": {"eq": "x"}}}},
            "invalid_dimension_filter",
            "filters.dimensions.region",
        ),
        (
            {"filters": {"dimensions": {"customer_id": {"neq": "x"}}}},
            "unsupported_filter_operator",
            "filters.dimensions.customer_id",
        ),
        (
            {"filters": {"dimensions": {"subject": {"contains": "x"}}}},
            "unsupported_filter_operator",
            "filters.dimensions.subject",
        ),
    ],
)
async def test_a_question_that_the_meter_cannot_answer_has_a_code(
    metered: Client, asked: dict[str, Any], code: str, field: str
) -> None:
    answer = await metered.post(QUERY, json=asked)

    assert answer.status == 400
    problem = await answer.json()
    assert problem["code"] == code
    assert problem["invalid_parameters"][0]["field"].startswith(field)
    (issue,) = problem["extensions"]["validationErrors"]
    assert (issue["code"], issue["message"]) == (code, problem["detail"])
    assert issue["field"].startswith(f"$.{field}")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param({}, "must have one operator, not 0", id="no operator"),
        pytest.param({"eq": "a", "neq": "b"}, "must have one operator, not 2", id="two operators"),
        pytest.param({"like": "a"}, "is not known", id="an unknown operator"),
        pytest.param({"in": []}, "at least 1 item", id="one of nothing"),
        pytest.param({"in": ["x"] * 101}, "at most 100 items", id="one of too many"),
        pytest.param({"eq": None}, "must be a valid string", id="null"),
        pytest.param(
            {"and": [{"or": [{"and": [{"eq": "a"}]}]}]},
            "nests and / or deeper than two levels",
            id="three levels",
        ),
        pytest.param({"and": [{"exists": True}]}, "is not known", id="exists below and"),
    ],
)
async def test_a_wrong_filter_is_refused_with_its_place(
    metered: Client, given: dict[str, Any], reason: str
) -> None:
    answer = await metered.post(QUERY, json={"filters": {"dimensions": {"model": given}}})

    assert answer.status == 400
    (found,) = (await answer.json())["invalid_parameters"]
    assert found["field"].startswith("filters.dimensions.model")
    assert reason in found["reason"]


async def test_a_period_that_ends_before_it_begins_is_refused(metered: Client) -> None:
    answer = await metered.post(
        QUERY, json={"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    )

    assert (await answer.json())["invalid_parameters"][0]["field"] == "to"


async def test_the_questions_period_is_answered_in_utc(metered: Client) -> None:
    answer = await metered.post(
        QUERY, json={"from": "2026-04-13T12:30:00+02:00", "to": "2026-04-14T00:00:00.5Z"}
    )

    result = await answer.json()
    assert (result["from"], result["to"]) == ("2026-04-13T10:30:00Z", "2026-04-14T00:00:00.500000Z")
    assert result["data"][0]["value"] == "35"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("30", "30"),
        ("30.000", "30"),
        ("0.0300", "0.03"),
        ("3E+1", "30"),
        ("1E-18", "0.000000000000000001"),
        ("-1.50", "-1.5"),
        ("-0.0", "0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_a_number_is_written_plainly(value: str, text: str) -> None:
    assert write_number(Decimal(value)) == text


def test_csv_quotes_what_needs_it() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    row = MeterRow(Decimal("1.5"), moment, moment, {"model": 'a "b"\nc'})

    assert write_csv(("model",), [row]) == (
        'from,to,model,value\n2026-01-01T00:00:00Z,2026-01-01T00:00:00Z,"a ""b""\nc",1.5\n'
    )


async def many_subjects(client: Client, count: int) -> None:
    """Events of so many subjects, one a minute."""
    events = [
        {
            "specversion": "1.0",
            "id": f"many-{number}",
            "source": "test",
            "type": "call",
            "subject": f"one of many {number}",
            "time": f"2026-04-13T11:{number:02d}:00Z",
            "data": {"tokens": 1, "model": "gpt-4o"},
        }
        for number in range(count)
    ]
    assert (await client.post("/api/v3/openmeter/events", json=events)).status == 202


async def test_an_answer_has_every_row_or_is_refused_with_what_to_do(
    metered: Client, settings: Settings
) -> None:
    since = {"from": "2026-04-13T11:00:00Z"}
    only = {"dimensions": {"model": {"eq": "gpt-4o"}}}
    split = {**since, "group_by_dimensions": ["subject"]}
    by_minute = {**since, "granularity": "PT1M", "filters": only}
    most = settings.max_query_rows

    await many_subjects(metered, most)
    for asked in (split, by_minute):
        answer = await metered.post(QUERY, json=asked)

        rows = (await answer.json())["data"]
        assert (len(rows), sum(int(row["value"]) for row in rows)) == (most, most)

    await many_subjects(metered, most + 1)
    for asked, field in ((split, "group_by_dimensions"), (by_minute, "granularity")):
        for path in (QUERY, await cost_query(metered)):
            for accept in ("application/json", "text/csv"):
                answer = await metered.post(path, json=asked, headers={"Accept": accept})

                problem = await answer.json()
                assert (answer.status, problem["code"]) == (400, "too_many_rows")
                [parameter] = problem["invalid_parameters"]
                assert parameter["field"] == field
                assert f"gives more than {most} rows: ask for less time" in parameter["reason"]

        narrowed = await metered.post(QUERY, json={**asked, "to": "2026-04-13T11:49:00Z"})
        assert len((await narrowed.json())["data"]) == most


async def cost_query(client: Client) -> str:
    """The path that asks what the meter's usage cost."""
    features = "/api/v3/openmeter/features"
    meter = await (await client.get("/api/v3/openmeter/meters/tokens")).json()
    feature = {"key": "calls", "name": "Calls", "meter": {"id": meter["id"]}}
    await client.post(features, json=feature)
    return f"{features}/calls/cost/query"


async def test_what_bills_and_reports_read_is_never_cut(
    metered: Client, server: TestServer, settings: Settings
) -> None:
    await many_subjects(metered, settings.max_query_rows + 1)
    meter = await server.app[METERS].get("default", "tokens")

    rows = await server.app[EVENTS].query(meter, MeterQuery(group_by=("subject",)))

    assert sum(row.value for row in rows) == settings.max_query_rows + 1 + 35
