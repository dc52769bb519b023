"""`GET /events`: pages, filters, an order, and what keeps an event from being counted."""

from typing import Any

import pytest

from tests.integration.api.conftest import Client

EVENTS = "/api/v3/openmeter/events"


@pytest.fixture
async def stocked(client: Client) -> Client:
    """Five events, a minute apart."""
    events = [
        {
            "specversion": "1.0",
            "id": f"event-{number}",
            "source": "test",
            "type": "call",
            "subject": "acme" if number % 2 else "other",
            "time": f"2026-04-13T10:0{number}:00Z",
            "data": {"tokens": number, "nested": {"a": [1, 2.50]}},
        }
        for number in range(5)
    ]
    assert (await client.post(EVENTS, json=events)).status == 202
    return client


async def ids(client: Client, **parameters: str) -> list[str]:
    """The ids of a page."""
    answer = await client.get(EVENTS, params=parameters)
    assert answer.status == 200, await answer.text()
    return [item["event"]["id"] for item in (await answer.json())["data"]]


async def test_an_event_is_listed_as_it_came_with_its_times(stocked: Client) -> None:
    answer = await stocked.get(EVENTS, params={"filter[id]": "event-1"})

    (item,) = (await answer.json())["data"]
    assert set(item) == {
        "event",
        "customer",
        "unattributed",
        "ingested_at",
        "stored_at",
        "validation_errors",  # no meter counts events of its type
    }
    assert item["ingested_at"] <= item["stored_at"]
    assert item["ingested_at"].endswith("Z")
    assert item["event"] == {
        "specversion": "1.0",
        "id": "event-1",
        "source": "test",
        "type": "call",
        "subject": "acme",
        "time": "2026-04-13T10:01:00Z",
        "datacontenttype": "application/json",
        "data": {"tokens": 1, "nested": {"a": [1, 2.5]}},
    }


async def test_the_newest_come_first_and_every_page_leads_to_the_next(stocked: Client) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        answer = await stocked.get(EVENTS, params={"page[size]": "2", **after})
        page = await answer.json()
        seen += [item["event"]["id"] for item in page["data"]]
        meta = page["meta"]["page"]
        assert (meta["size"], meta["previous"]) == (2, None)
        if meta["next"] is None:
            break
        after = {"page[after]": meta["next"]}

    assert seen == [f"event-{number}" for number in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        pytest.param({"filter[subject][eq]": "acme"}, [3, 1], id="a subject"),
        pytest.param({"filter[subject]": "acme"}, [3, 1], id="a bare value is eq"),
        pytest.param({"filter[id][oeq]": "event-0,event-2"}, [2, 0], id="one of several"),
        pytest.param({"filter[subject][contains]": "CM"}, [3, 1], id="a part, in any case"),
        pytest.param({"filter[type][neq]": "call"}, [], id="not a type"),
        pytest.param({"filter[time][gte]": "2026-04-13T10:03:00Z"}, [4, 3], id="from a time on"),
        pytest.param({"filter[time][lt]": "2026-04-13T12:02:00+02:00"}, [1, 0], id="before a time"),
        pytest.param({"sort": "time asc"}, [0, 1, 2, 3, 4], id="the oldest first"),
    ],
)
async def test_a_list_is_filtered_and_ordered(
    stocked: Client, parameters: dict[str, str], found: list[int]
) -> None:
    assert await ids(stocked, **parameters) == [f"event-{number}" for number in found]


async def test_a_time_whose_plus_was_not_escaped_is_understood(stocked: Client) -> None:
    answer = await stocked.get(f"{EVENTS}?filter[time][lt]=2026-04-13T12:01:00+02:00")

    assert [item["event"]["id"] for item in (await answer.json())["data"]] == ["event-0"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"page[before]": "x"}, "page[before]"),
        ({"page[after]": "x"}, "page[after]"),
        ({"page[number]": "1"}, "page[number]"),
        ({"page[size]": "101"}, "page[size]"),
        ({"sort": "id"}, "sort"),
        ({"filter[time]": "yesterday"}, "filter[time]"),
        ({"filter[time][contains]": "2026"}, "filter[time][contains]"),
        ({"filter[customer_id][contains]": "x"}, "filter[customer_id][contains]"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(
    client: Client, parameters: dict[str, str], field: str
) -> None:
    answer = await client.get(EVENTS, params=parameters)

    assert answer.status == 400
    (found,) = (await answer.json())["invalid_parameters"]
    assert (found["field"], found["source"]) == (field, "query")


async def test_an_event_that_a_meter_cannot_count_says_so(stocked: Client) -> None:
    meter: dict[str, Any] = {
        "key": "seconds",
        "name": "Seconds",
        "aggregation": "sum",
        "event_type": "call",
        "value_property": "$.seconds",
    }
    await stocked.post("/api/v3/openmeter/meters", json=meter)

    answer = await stocked.get(EVENTS, params={"page[size]": "1"})

    (item,) = (await answer.json())["data"]
    (error,) = item["validation_errors"]
    assert error["attributes"]["meter"] == "seconds"
    assert error["code"]
    assert error["message"]


async def test_an_empty_list_has_no_cursors(client: Client) -> None:
    answer = await client.get(EVENTS)

    assert await answer.json() == {
        "data": [],
        "meta": {"page": {"size": 20, "next": None, "previous": None, "first": None, "last": None}},
    }
