"""Usage that belongs to nobody is shown with the reason, and counts once a customer has it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families
from tallyman.api.state import CLOCK

from tests.integration.api.conftest import Client

EVENTS = "/api/v3/openmeter/events"
QUERY = "/api/v3/openmeter/meters/kong_konnect_llm_tokens/query"
CUSTOMERS = "/api/v3/openmeter/customers"
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


class Clock:
    """What the application takes for the time."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(server: TestServer) -> Clock:
    clock = Clock()
    server.app._state[CLOCK] = clock  # the application is frozen by now
    return clock


def event(id_: str, subject: str, at: datetime) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "test",
        "type": "llm.tokens",
        "subject": subject,
        "time": at.isoformat(),
        "data": {"tokens": 1, "type": "request"},
    }


async def send(client: Client, *events: dict[str, Any]) -> None:
    assert (await client.post(EVENTS, json=list(events))).status == 202


async def make(client: Client, key: str, *subjects: str) -> str:
    body = {"key": key, "name": key, "usage_attribution": {"subject_keys": subjects}}
    answer = await client.post(CUSTOMERS, json=body)
    assert answer.status == 201, await answer.text()
    return str((await answer.json())["id"])


async def give(client: Client, key: str, *subjects: str) -> None:
    body = {"name": key, "usage_attribution": {"subject_keys": subjects}}
    assert (await client.put(f"{CUSTOMERS}/{key}", json=body)).status == 200


async def whose(client: Client, **query: str) -> dict[str, str]:
    """The customer of each event, or the code of the reason that there is none."""
    answer = await client.get(EVENTS, params=query)
    assert answer.status == 200, await answer.text()
    return {
        item["event"]["id"]: item["unattributed"]["code"]
        if item["customer"] is None
        else item["customer"]["id"]
        for item in (await answer.json())["data"]
    }


async def unattributed(client: Client) -> dict[str, float]:
    """The metric, by reason."""
    text = await (await client.get("/metrics")).text()
    return {
        sample.labels["reason"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "tallyman_unattributed_events"
    }


async def test_an_event_of_nobody_is_listed_with_the_reason_and_then_with_its_customer(
    client: Client, clock: Clock
) -> None:
    await send(client, event("1", "acme", NOW - HOUR), event("2", "anonymous", NOW - HOUR))

    before = (await (await client.get(EVENTS, params={"filter[id]": "1"})).json())["data"][0]
    assert before["customer"] is None
    assert before["unattributed"] == {
        "code": "no_customer",
        "message": "no customer has the subject acme in its subject_keys",
    }
    assert await whose(client) == {"1": "no_customer", "2": "anonymous"}

    acme = await make(client, "acme-corp", "acme")

    assert await whose(client) == {"1": acme, "2": "anonymous"}
    after = (await (await client.get(EVENTS, params={"filter[id]": "1"})).json())["data"][0]
    assert "unattributed" not in after


async def test_a_moved_subject_leaves_its_past_usage_with_the_customer_that_had_it(
    client: Client, clock: Clock
) -> None:
    first, second = await make(client, "first", "acme"), await make(client, "second")
    events = [event(str(hour), "acme", NOW + hour * HOUR) for hour in range(-1, 5)]
    await send(client, *events)
    clock.now = NOW + HOUR
    await give(client, "first")
    free = await whose(client)
    clock.now = NOW + 3 * HOUR
    await give(client, "second", "acme")

    assert free == {"-1": first, "0": first} | dict.fromkeys("1234", "released")
    # to the instant, and what came in between goes to the one that takes it
    expected = {"-1": first, "0": first} | dict.fromkeys("1234", second)
    assert await whose(client) == expected
    for customer in (first, second):
        assert await whose(client, **{"filter[customer_id]": customer}) == {
            id_: owner for id_, owner in expected.items() if owner == customer
        }


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        pytest.param({"filter[customer_id][exists]": "false"}, {"2", "3"}, id="nobody's"),
        pytest.param({"filter[customer_id][exists]": "true"}, {"1"}, id="somebody's"),
        pytest.param({"filter[customer_id][neq]": "{acme}"}, {"2", "3"}, id="not this one's"),
        pytest.param({"filter[customer_id][oeq]": "{acme},x"}, {"1"}, id="one of these"),
        pytest.param({"filter[customer_id]": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, set(), id="unknown"),
    ],
)
async def test_events_are_listed_by_customer(
    client: Client, query: dict[str, str], ids: set[str]
) -> None:
    acme = await make(client, "acme-corp", "acme")
    moments = zip(("acme", "eve", "anonymous"), "123", strict=True)
    await send(client, *(event(id_, subject, NOW) for subject, id_ in moments))

    found = await whose(client, **{name: text.format(acme=acme) for name, text in query.items()})

    assert set(found) == ids


async def test_a_customer_filter_takes_no_other_operator(client: Client) -> None:
    answer = await client.get(EVENTS, params={"filter[customer_id][contains]": "x"})

    assert answer.status == 400
    assert (await answer.json())["invalid_parameters"][0]["choices"] == [
        "eq",
        "neq",
        "oeq",
        "exists",
    ]


async def test_a_metric_and_the_status_count_what_is_nobodys_until_it_is_somebodys(
    client: Client, clock: Clock
) -> None:
    await make(client, "first", "acme")
    clock.now = NOW - HOUR
    await give(client, "first")
    clock.now = NOW
    await send(
        client,
        *(event(f"a{hour}", "acme", NOW - hour * HOUR) for hour in range(3)),
        event("e", "eve", NOW),
        event("x", "anonymous", NOW),
        event("old", "eve", NOW - timedelta(days=32)),
    )

    assert await unattributed(client) == {"released": 2, "no_customer": 1, "anonymous": 1}
    status = await (await client.get("/api/v1/status")).json()
    assert status["unattributed"] == {
        "events": 4,
        "subjects_in_all": 3,
        "subjects": [
            {"subject": "acme", "events": 2, "reason": "released"},
            {"subject": "anonymous", "events": 1, "reason": "anonymous"},
            {"subject": "eve", "events": 1, "reason": "no_customer"},
        ],
    }

    await make(client, "second", "acme", "eve")
    clock.now = NOW + HOUR

    assert await unattributed(client) == {"released": 0, "no_customer": 0, "anonymous": 1}


async def test_a_namespace_does_not_see_whose_a_subject_is_elsewhere(
    client: Client, client_of: Any
) -> None:
    from tallyman.domain.access import Scope

    theirs = await client_of(Scope.ADMIN, namespace="theirs")
    await make(theirs, "acme-corp", "acme")
    await send(client, event("1", "acme", NOW))

    assert await whose(client) == {"1": "no_customer"}


async def test_a_meter_splits_and_filters_by_customer_at_the_events_time(
    client: Client, clock: Clock
) -> None:
    first, second = await make(client, "first", "acme", "other"), await make(client, "second")
    clock.now = NOW + HOUR
    await give(client, "first", "other")
    await give(client, "second", "acme")
    await send(
        client,
        *(event(f"a{hour}", "acme", NOW + hour * HOUR) for hour in range(4)),
        event("o", "other", NOW),
        event("e", "eve", NOW),
    )

    async def values(asked: dict[str, Any]) -> dict[tuple[str, str], str]:
        answer = await client.post(QUERY, json=asked)
        assert answer.status == 200, await answer.text()
        rows = (await answer.json())["data"]
        return {
            (row["dimensions"]["customer_id"], row["dimensions"].get("subject", "")): row["value"]
            for row in rows
        }

    assert await values({"group_by_dimensions": ["customer_id"]}) == {
        (first, ""): "2",
        (second, ""): "3",
        ("", ""): "1",
    }
    assert await values(
        {
            "group_by_dimensions": ["subject"],
            "filters": {"dimensions": {"customer_id": {"in": [first, "nobody"]}}},
        }
    ) == {(first, "acme"): "1", (first, "other"): "1"}
    csv = await client.post(
        QUERY,
        json={"filters": {"dimensions": {"customer_id": {"eq": second}}}},
        headers={"Accept": "text/csv"},
    )
    head, row = (await csv.text()).splitlines()
    assert head == "from,to,customer_id,customer_key,customer_name,value"
    assert row.split(",")[2:] == [second, "second", "second", "3"]
