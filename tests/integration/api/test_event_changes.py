"""`/events/void`, `/events/amend`, and how `/events` shows what was changed."""

from typing import Any

import pytest
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.selling import API, customer, event, sell, send, subscribe
from tests.integration.api.test_entitlements import becomes


async def changed(client: Client, how: str, **body: Any) -> tuple[int, Any]:
    answer = await client.post(f"{API}/events/{how}", json={"source": "test", **body})
    return answer.status, await answer.json()


async def test_events_show_what_was_changed_by_whom_and_why(client: Client) -> None:
    first, second = event("acme", 8), event("acme", 5)
    await send(client, first, second)

    voided = await changed(client, "void", id=first["id"], reason="a test run")
    amended = await changed(
        client, "amend", id=second["id"], reason="counted twice", data={"tokens": 2}
    )

    assert (voided[0], amended[0]) == (200, 200)
    listed = await (await client.get(f"{API}/events")).json()
    found = {one["event"]["id"]: one for one in listed["data"]}
    assert found[first["id"]]["voided"] is True
    assert found[first["id"]]["changes"] == [voided[1]]
    assert found[second["id"]]["event"]["data"] == {"tokens": 2}
    assert found[second["id"]]["changes"] == [amended[1]]
    assert amended[1]["change"] == "amended"
    assert amended[1]["reason"] == "counted twice"
    assert amended[1]["before"]["data"] == {"tokens": 5}
    assert amended[1]["after"]["data"] == {"tokens": 2}


async def test_what_a_customer_may_use_follows_a_change(client: Client) -> None:
    await sell(client, {"tokens": {"type": "metered", "limit": 10, "is_soft_limit": False}})
    await customer(client, "acme")
    await subscribe(client, "acme")
    sent = event("acme", 12)
    await send(client, sent)
    path = "/api/v2/customers/acme/entitlements/tokens/value"

    async def usage() -> Any:
        return (await (await client.get(path)).json())["usage"]

    await becomes(usage, 12)
    await changed(client, "void", id=sent["id"], reason="a test run")

    await becomes(usage, 0)


@pytest.mark.parametrize(
    ("how", "body", "status"),
    [
        pytest.param("void", {"id": "x", "reason": "r"}, 404, id="an event that is not stored"),
        pytest.param("void", {"id": "x"}, 400, id="no reason"),
        pytest.param("amend", {"id": "x", "reason": "r"}, 400, id="nothing said instead"),
        pytest.param(
            "amend",
            {"id": "x", "reason": "r", "data": {"tokens": 0.12345678901234567891}},
            404,
            id="a number as Python sends it",
        ),
    ],
)
async def test_a_change_of_nothing_is_refused(
    client: Client, how: str, body: dict[str, Any], status: int
) -> None:
    refused, problem = await changed(client, how, **body)

    assert refused == status
    if status == 404:
        assert [one["field"] for one in problem["invalid_parameters"]] == ["id"]


async def test_a_number_that_would_be_rounded_is_refused(client: Client) -> None:
    body = b'{"source":"test","id":"x","reason":"r","data":{"tokens":0.12345678901234567891}}'
    headers = {"Content-Type": "application/json"}

    answer = await client.post(f"{API}/events/amend", data=body, headers=headers)

    assert answer.status == 400


async def test_who_sends_events_cannot_change_them(client_of: ClientOf) -> None:
    sender = await client_of(Scope.INGEST)

    assert (await changed(sender, "void", id="x", reason="r"))[0] == 403
