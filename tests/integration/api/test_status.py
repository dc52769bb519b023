"""`GET /api/v1/status`: what is there, and for whom."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tallyman import __version__
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf

# An hour ahead: of today also where midnight passes between the event and the question.
TIME = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def test_it_says_what_is_stored_and_how_todays_events_were_counted(client: Client) -> None:
    for number, data in enumerate([{"outcome": "complete", "usage_source": "provider"}, {}, {}]):
        await _send(client, number, data)

    status = await _status(client)

    assert (status["version"], status["events_in"], status["lag"]) == (__version__, "chDB", None)
    assert (status["events"], status["keys"]) == (3, 1)
    assert datetime.fromisoformat(status["newest_event_at"]) == datetime.fromisoformat(TIME)
    assert [(day["outcome"], day["events"]) for day in status["today"]] == [
        ("", 2),
        ("complete", 1),
    ]


async def test_it_counts_the_events_and_keys_of_the_callers_namespace_alone(
    client_of: ClientOf,
) -> None:
    ours = await client_of(Scope.ADMIN, namespace="ours")
    theirs = await client_of(Scope.READ, namespace="theirs")
    await _send(ours, 1, {})

    statuses = [await _status(ours), await _status(theirs)]

    assert [(status["events"], status["keys"]) for status in statuses] == [(1, 1), (0, 1)]
    assert statuses[1]["today"] == []
    assert statuses[1]["newest_event_at"] is None


async def _send(client: Client, number: int, data: dict[str, str]) -> None:
    event = {
        "specversion": "1.0",
        "id": str(number),
        "source": "s",
        "type": "llm.tokens",
        "subject": "acme-corp",
        "time": TIME,
        "data": {"tokens": 1, **data},
    }
    answer = await client.post("/api/v3/openmeter/events", json=event)
    assert answer.status == 202, await answer.text()


async def _status(client: Client) -> dict[str, Any]:
    answer = await client.get("/api/v1/status")
    assert answer.status == 200, await answer.text()
    status: dict[str, Any] = await answer.json()
    return status
