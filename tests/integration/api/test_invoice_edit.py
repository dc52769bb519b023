"""`PUT /billing/invoices/{id}`: what a draft says is changed by hand, what it amounts to is not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from sqlalchemy import select
from tallyman.api.state import DATABASE
from tallyman.domain.access import LOCAL, Scope
from tallyman.store.tables import audit_log

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.integration.api.invoicing import INVOICES, act, only, read
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop


def as_read(invoice: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The invoice as a client sends it that has read it: what can be edited, and its lines."""
    wanted = ("type", "description", "labels", "supplier", "customer")
    body = copy.deepcopy({name: invoice[name] for name in wanted if name in invoice})
    body["workflow"] = {"workflow": {}}
    body["lines"] = [
        copy.deepcopy(
            {name: line[name] for name in ("id", "type", "name", "service_period", "rate_card")}
        )
        for line in invoice["lines"]
    ]
    return body | changed


async def put(client: Client, invoice: dict[str, Any], body: object) -> tuple[int, dict[str, Any]]:
    answer = await client.put(f"{INVOICES}/{invoice['id']}", json=body)
    return answer.status, await answer.json()


async def draft(client: Client, shop: Shop, clock: Clock) -> dict[str, Any]:
    """One that is counted and waits for approval."""
    await shop.change_workflow(auto_advance=False)
    clock.now = DECEMBER + COLLECTED
    await shop.bill(clock.now)
    return await only(client)


async def test_a_draft_says_something_else_and_keeps_its_amounts(
    client: Client, shop: Shop, clock: Clock
) -> None:
    before = await draft(client, shop, clock)
    await shop.use(1_000_000, NOVEMBER)  # it is on the next invoice
    address = {"country": "DE", "city": "Berlin"}
    customer = {"id": before["customer"]["id"], "name": "Acme Ltd", "billing_address": address}
    body = {
        "type": "standard",
        "description": "Order 7",
        "labels": {"team": "search"},
        "supplier": {"id": "ignored", "name": "We", "tax_id": {"code": "DE1"}},
        "customer": customer,
        "workflow": {"workflow": {}},
    }

    status, after = await put(client, before, body)

    assert status == 200, after
    assert after["description"] == "Order 7"
    assert after["labels"] == {"team": "search"}
    assert after["supplier"] == {"name": "We", "tax_id": {"code": "DE1"}}
    assert after["customer"] == {**before["customer"], **customer}
    for name in ("totals", "status_details", "workflow", "number", "watermark"):
        assert after[name] == before[name], name
    assert [line["totals"] for line in after["lines"]] == [
        line["totals"] for line in before["lines"]
    ]
    assert await read(client, f"{INVOICES}/{before['id']}") == after
    approved = await act(client, f"{INVOICES}/{before['id']}/approve")
    assert (approved["description"], approved["customer"]) == ("Order 7", after["customer"])
    assert (approved["number"], approved["totals"]["total"]) == ("INV-000001", "0.03")


async def test_what_is_read_can_be_sent_again(client: Client, shop: Shop, clock: Clock) -> None:
    before = await draft(client, shop, clock)

    status, after = await put(client, before, as_read(before))

    assert status == 200, after
    assert {**after, "updated_at": 0, "lines": 0} == {**before, "updated_at": 0, "lines": 0}


async def test_a_draft_that_is_not_counted_yet_is_counted_as_it_is_edited(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await shop.bill(DECEMBER)
    waiting = await only(client)
    body = as_read(waiting, description="Order 7")
    body["customer"]["name"] = "Acme Ltd"

    status, after = await put(client, waiting, body)

    assert (status, after["status_details"]) == (200, waiting["status_details"])
    clock.now = DECEMBER + COLLECTED
    await shop.bill(clock.now)
    issued = await only(client)
    assert (issued["status"], issued["totals"]["total"]) == ("payment_processing", "0.03")
    assert (issued["description"], issued["customer"]["name"]) == ("Order 7", "Acme Ltd")


async def test_one_that_was_counted_early_is_not_counted_again(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await shop.change_workflow(auto_advance=False)
    await shop.bill(DECEMBER)
    counted = await act(client, f"{INVOICES}/{(await only(client))['id']}/snapshot-quantities")
    await shop.use(1_000_000, NOVEMBER)

    status, after = await put(client, counted, as_read(counted, description="Order 7"))

    assert (status, after["totals"]) == (200, counted["totals"])
    assert after["status_details"] == counted["status_details"]


async def test_a_draft_goes_on_by_the_workflow_that_it_is_given(
    client: Client, shop: Shop, clock: Clock
) -> None:
    before = await draft(client, shop, clock)
    payment = {"collection_method": "send_invoice", "due_after": "P2W"}
    invoicing = {"auto_advance": True, "draft_period": "P1D"}
    workflow = {"workflow": {"workflow": {"invoicing": invoicing, "payment": payment}}}

    _, reviewed = await put(client, before, as_read(before, **workflow))

    assert reviewed["status_details"]["extended_status"] == "draft.waiting_auto_approval"
    assert reviewed["draft_until"] == "2026-12-02T01:00:00Z"
    assert reviewed["workflow"]["workflow"]["payment"] == payment
    await shop.bill(DECEMBER.replace(day=2) + COLLECTED)
    issued = await only(client)
    assert (issued["status"], issued["due_at"]) == ("payment_processing", "2026-12-16T01:00:00Z")


async def test_only_a_draft_can_be_edited(client: Client, shop: Shop, clock: Clock) -> None:
    before = await draft(client, shop, clock)
    issued = await act(client, f"{INVOICES}/{before['id']}/approve")

    status, found = await put(client, issued, as_read(issued, description="Order 7"))

    assert (status, found["code"]) == (400, "invoice_cannot_be_edited")
    assert found["extensions"]["validationErrors"][0]["code"] == "invoice_cannot_be_edited"
    assert await read(client, f"{INVOICES}/{before['id']}") == issued


async def test_what_was_changed_is_kept_with_who_changed_it(
    client: Client, server: TestServer, shop: Shop, clock: Clock
) -> None:
    before = await draft(client, shop, clock)
    await put(client, before, as_read(before, description="Order 7"))

    async with server.app[DATABASE].reading() as connection:
        wanted = select(audit_log).where(audit_log.c.action == "edited")
        [row] = (await connection.execute(wanted)).all()
    assert (row.entity, row.entity_id) == ("invoice", before["id"])
    assert row.actor != LOCAL
    assert (row.before["description"], row.after["description"]) == (None, "Order 7")
    assert "supplier" not in row.after
    assert row.before["total"] == row.after["total"]


def _price(body: dict[str, Any]) -> None:
    body["lines"][0]["rate_card"]["price"] = {"type": "unit", "amount": "1"}


def _period(body: dict[str, Any]) -> None:
    body["lines"][0]["service_period"]["to"] = "2026-11-30T00:00:00Z"


def _no_lines(body: dict[str, Any]) -> None:
    body["lines"] = []


def _twice(body: dict[str, Any]) -> None:
    body["lines"] *= 2


def _added(body: dict[str, Any]) -> None:
    body["lines"].append({k: v for k, v in body["lines"][0].items() if k != "id"})


def _customer(body: dict[str, Any]) -> None:
    body["customer"]["id"] = body["lines"][0]["id"]


def _number(body: dict[str, Any]) -> None:
    body["number"] = "7"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_price, "lines[0].rate_card.price"),
        (_period, "lines[0].service_period"),
        (_no_lines, "lines"),
        (_twice, "lines[1].id"),
        (_added, "lines[1]"),
        (_customer, "customer.id"),
        (_number, "number"),
    ],
)
async def test_what_cannot_be_changed_is_refused(
    client: Client,
    shop: Shop,
    clock: Clock,
    change: Callable[[dict[str, Any]], None],
    field: str,
) -> None:
    before = await draft(client, shop, clock)
    body = as_read(before)
    change(body)

    status, found = await put(client, before, body)

    assert (status, [one["field"] for one in found["invalid_parameters"]]) == (400, [field])
    assert await read(client, f"{INVOICES}/{before['id']}") == before


async def test_editing_needs_an_admin(
    client: Client, client_of: ClientOf, shop: Shop, clock: Clock
) -> None:
    before = await draft(client, shop, clock)

    assert (await put(await client_of(Scope.READ), before, as_read(before)))[0] == 403
    stranger = await client_of(Scope.ADMIN, namespace="other")
    assert (await put(stranger, before, as_read(before)))[0] == 404
