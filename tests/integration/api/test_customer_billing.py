"""`/customers/{id}/billing`: the profile that a customer's next invoices are made by."""

from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from sqlalchemy import select
from tallyman.api.state import DATABASE
from tallyman.domain.access import LOCAL, Scope
from tallyman.store.tables import audit_log

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.integration.api.invoicing import INVOICES, only, read
from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, Shop

API = "/api/v3/openmeter"
BILLING = f"{API}/customers/acme/billing"


async def profile(client: Client, **workflow: Any) -> str:
    """The id of a new profile."""
    body = {"name": "Slow", "supplier": {"name": "Us"}, "workflow": workflow, "default": False}
    answer = await client.post(f"{API}/profiles", json=body)
    found = await answer.json()
    assert answer.status == 201, found
    return str(found["id"])


async def put(client: Client, body: object, path: str = BILLING) -> tuple[int, dict[str, Any]]:
    answer = await client.put(path, json=body)
    return answer.status, await answer.json()


async def test_a_customer_has_the_default_profile_until_it_has_another(
    client: Client, shop: Shop
) -> None:
    default = (await read(client, f"{API}/profiles"))["data"][0]["id"]
    other = await profile(client)
    wanted = {"billing_profile": {"id": other}, "app_data": {}}

    assert await read(client, BILLING) == {"billing_profile": {"id": default}, "app_data": {}}
    assert await put(client, wanted) == (200, wanted)
    assert await read(client, BILLING) == wanted
    found = await read(client, f"{API}/customers?filter[billing_profile_id]={other}")
    assert [one["key"] for one in found["data"]] == ["acme"]
    assert await put(client, {}) == (200, {"billing_profile": {"id": default}, "app_data": {}})
    await put(client, wanted)
    assert (await client.delete(f"{API}/profiles/{other}")).status == 204
    assert (await read(client, BILLING))["billing_profile"] == {"id": default}


async def test_the_next_invoice_is_made_by_the_customers_profile(
    client: Client, shop: Shop, clock: Clock
) -> None:
    other = await profile(
        client,
        collection={"interval": "P3D"},
        invoicing={"auto_advance": False, "draft_period": "P1D"},
        payment={"collection_method": "send_invoice", "due_after": "P14D"},
    )
    clock.now = DECEMBER + COLLECTED
    await shop.bill(clock.now)
    before = await only(client)
    await put(client, {"billing_profile": {"id": other}})
    await shop.use(500_000, DECEMBER)
    await shop.bill(JANUARY + COLLECTED)
    page = await read(client, f"{INVOICES}?filter[service_period_start][gte]=2026-12-01T00:00:00Z")
    (waiting,) = page["data"]

    assert (before["status"], before["due_at"]) == ("payment_processing", "2026-12-31T01:00:00Z")
    assert waiting["status_details"]["extended_status"] == "draft.waiting_for_collection"
    assert waiting["collection_at"] == "2027-01-04T00:00:00Z"
    assert waiting["supplier"] == {"name": "Us"}
    assert waiting["workflow"]["source_billing_profile"] == {"id": other}
    clock.now = JANUARY.replace(day=4)
    await shop.bill(clock.now)
    path = f"{INVOICES}/{waiting['id']}"
    collected = await read(client, path)
    assert collected["status_details"]["extended_status"] == "draft.manual_approval_needed"
    assert (await client.post(f"{path}/approve")).status == 200
    approved = await read(client, path)
    assert approved["due_at"] == "2027-01-18T00:00:00Z"
    assert (await read(client, f"{INVOICES}/{before['id']}"))["due_at"] == before["due_at"]


async def test_who_gave_a_customer_a_profile_is_kept(
    client: Client, server: TestServer, shop: Shop
) -> None:
    other = await profile(client)
    for _ in range(2):  # the second changes nothing
        await put(client, {"billing_profile": {"id": other}})

    async with server.app[DATABASE].reading() as connection:
        wanted = select(audit_log).where(audit_log.c.entity == "customer").order_by(audit_log.c.id)
        [_, row] = (await connection.execute(wanted)).all()
    assert (row.before["billing_profile_id"], row.after["billing_profile_id"]) == (None, other)
    assert row.actor != LOCAL


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"billing_profile": {"id": "01KA2B3C4D5E6F7G8H9JKMNPQR"}}, "billing_profile.id"),
        ({"billing_profile": {}}, "billing_profile.id"),
        ({"app_data": {"sandbox": {}}}, "app_data.sandbox"),
        ({"profile": None}, "profile"),
    ],
)
async def test_what_there_is_not_is_refused(
    client: Client, shop: Shop, body: dict[str, Any], field: str
) -> None:
    status, found = await put(client, body)

    assert (status, [one["field"] for one in found["invalid_parameters"]]) == (400, [field])


async def test_a_profile_and_a_customer_of_another_namespace_are_not_there(
    client: Client, client_of: ClientOf, shop: Shop
) -> None:
    stranger = await client_of(Scope.ADMIN, namespace="other")
    theirs = await profile(stranger)

    assert (await put(client, {"billing_profile": {"id": theirs}}))[0] == 400
    assert (await put(stranger, {}))[0] == 404
    assert (await stranger.get(BILLING)).status == 404
    reader = await client_of(Scope.READ)
    assert ((await reader.get(BILLING)).status, (await put(reader, {}))[0]) == (200, 403)
