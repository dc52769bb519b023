"""`/billing/invoices`: read, moved on, shown to people; and the preview of what is not billed."""

from datetime import datetime, timedelta
from decimal import Decimal as D
from io import BytesIO
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from pypdf import PdfReader
from tallyman.api.state import SETTINGS
from tallyman.domain.access import Scope
from tallyman.domain.price import FlatPrice

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.integration.api.invoicing import INVOICES, V1, act, only, problem, read
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

DAY = timedelta(days=1)


async def issued(client: Client, shop: Shop, clock: Clock) -> dict[str, Any]:
    clock.now = DECEMBER + COLLECTED
    await shop.bill(clock.now)
    return await only(client)


async def test_an_invoice_is_as_the_api_has_it(client: Client, shop: Shop, clock: Clock) -> None:
    found = await issued(client, shop, clock)

    (line,) = found.pop("lines")
    (detail,) = line.pop("detailed_lines")
    assert found["number"] == "INV-000001"
    assert found["status"] == "payment_processing"
    assert found["status_details"] == {
        "immutable": True,
        "failed": False,
        "extended_status": "payment_processing.pending",
        "available_actions": {},
    }
    assert found["totals"] == {
        "amount": "0.03",
        "taxes_total": "0",
        "taxes_inclusive_total": "0",
        "taxes_exclusive_total": "0",
        "charges_total": "0",
        "discounts_total": "0",
        "credits_total": "0",
        "total": "0.03",
    }
    assert found["service_period"] == {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    assert found["customer"]["usage_attribution"] == {"subject_keys": ["acme"]}
    assert line["usage_quantity_detail"] == {"raw_quantity": "15000", "invoiced_quantity": "15000"}
    assert line["rate_card"]["price"] == {
        "type": "unit",
        "amount": "0.000002",
        "amount_per_million": "2",
    }
    assert line["rate_card"]["feature_key"] == "tokens"
    assert line["totals"] == found["totals"]
    assert line["explanation"]["usage"]["calls"] == 1
    assert line["explanation"]["usage"]["unit"] == "token"
    assert line["explanation"]["plan"]["key"] == "starter"
    assert (detail["quantity"], detail["unit_price"]) == ("15000", "0.000002")
    assert await read(client, f"{INVOICES}/{found['id']}") == {**found, "lines": [
        {**line, "detailed_lines": [detail]}
    ]}  # fmt: skip


async def test_invoices_are_filtered_sorted_and_paged(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await shop.customer("globex")
    await shop.subscribe("globex")
    await issued_both(shop, clock)

    every = await read(client, f"{INVOICES}?sort=number desc")
    acme = next(one for one in every["data"] if one["customer"]["key"] == "acme")

    assert [one["number"] for one in every["data"]] == ["INV-000002", "INV-000001"]
    for query, count in (
        (f"filter[customer_id]={acme['customer']['id']}", 1),
        ("filter[status][oeq]=draft,payment_processing", 2),
        ("filter[status]=paid", 0),
        ("filter[issued_at][gte]=2026-12-01T00:00:00Z", 2),
        ("filter[service_period_start][lt]=2026-11-01T00:00:00Z", 0),
        ("page[size]=1&page[number]=2", 2),
    ):
        page = await read(client, f"{INVOICES}?{query}")
        assert page["meta"]["page"]["total"] == count, query


async def issued_both(shop: Shop, clock: Clock) -> None:
    clock.now = DECEMBER + COLLECTED
    await shop.bill(clock.now)


async def test_another_namespace_sees_nothing(
    client: Client, client_of: ClientOf, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)
    stranger = await client_of(Scope.ADMIN, namespace="other")

    assert (await read(stranger, INVOICES))["data"] == []
    for path in (
        f"{INVOICES}/{found['id']}", f"{INVOICES}/{found['id']}/pdf", f"/invoices/{found['id']}"
    ):  # fmt: skip
        assert (await stranger.get(path)).status == 404, path
    assert (await problem(stranger, f"{V1}/invoices/{found['id']}/void"))[0] == 404
    assert (await problem(stranger, f"{V1}/customers/acme/invoices/simulate"))[0] == 404


async def test_a_draft_is_counted_approved_and_issued(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await shop.change_workflow(auto_advance=False)
    await shop.bill(DECEMBER)
    draft = await only(client)
    path = f"{INVOICES}/{draft['id']}"

    assert draft["status_details"]["extended_status"] == "draft.waiting_for_collection"
    assert set(draft["status_details"]["available_actions"]) == {"snapshot_quantities", "delete"}
    assert await problem(client, f"{path}/approve") == (400, "invoice_action_not_available", [])
    assert await problem(client, f"{path}/advance") == (400, "invoice_cannot_advance", [])
    counted = await act(client, f"{path}/snapshot-quantities")
    assert counted["status_details"]["extended_status"] == "draft.manual_approval_needed"
    assert counted["status_details"]["available_actions"]["approve"] == {
        "resulting_state": "payment_processing.pending"
    }
    approved = await act(client, f"{path}/approve")
    assert (approved["status"], approved["number"]) == ("payment_processing", "INV-000001")


async def test_a_deleted_draft_is_gone_and_billed_again(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await shop.bill(DECEMBER)
    path = f"{INVOICES}/{(await only(client))['id']}"

    assert (await client.delete(path)).status == 204
    assert [(await client.get(path)).status, (await client.delete(path)).status] == [410, 410]
    await shop.bill(DECEMBER)
    assert f"{INVOICES}/{(await only(client))['id']}" != path


async def test_an_issued_invoice_cannot_be_deleted_but_made_void(
    client: Client, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)

    assert (await client.delete(f"{INVOICES}/{found['id']}")).status == 400
    void = await act(client, f"{V1}/invoices/{found['id']}/void", {"action": "pending"})
    assert void["status"] == "voided"
    await shop.bill(clock.now)
    numbers = sorted(one["number"] for one in (await read(client, INVOICES))["data"])
    assert numbers == ["INV-000001", "INV-000002"]


async def test_what_became_of_a_payment_is_taken_down(
    client: Client, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)
    path = f"{V1}/invoices/{found['id']}/payment/status"

    statuses = [
        (await act(client, path, {"trigger": trigger}))["status"]
        for trigger in ("payment_failed", "payment_overdue", "payment_uncollectible", "paid")
    ]

    assert statuses == ["payment_processing", "overdue", "uncollectible", "paid"]
    assert (await client.post(path, json={"trigger": "payment_failed"})).status == 400
    assert (await client.post(path, json={"trigger": "lost"})).status == 400


async def test_a_draft_has_no_payment_to_speak_of(client: Client, shop: Shop, clock: Clock) -> None:
    await shop.bill(DECEMBER)
    draft = await only(client)

    for trigger in ("paid", "payment_failed"):
        path = f"{V1}/invoices/{draft['id']}/payment/status"
        assert (await client.post(path, json={"trigger": trigger})).status == 400
    assert (await only(client))["status"] == "draft"


async def test_a_preview_shows_what_is_not_billed_and_keeps_nothing(
    client: Client, shop: Shop, clock: Clock
) -> None:
    clock.now = NOVEMBER + 20 * DAY
    path = f"{V1}/customers/acme/invoices/simulate"

    bodies: tuple[Any, ...] = (None, {})
    for body in bodies:
        found = await act(client, path, body)
        (line,) = found["lines"]
        assert (found["status"], found["totals"]["total"]) == ("gathering", "0.03")
        assert line["usage_quantity_detail"]["invoiced_quantity"] == "15000"
    assert (await read(client, INVOICES))["data"] == []


async def test_a_preview_of_nothing_has_no_lines(client: Client, shop: Shop, clock: Clock) -> None:
    await shop.customer("new", currency="EUR")

    found = await act(client, f"{V1}/customers/new/invoices/simulate")

    assert (found["lines"], found["currency"], found["totals"]["total"]) == ([], "EUR", "0")


async def test_a_run_names_the_customer_that_is_not_there(client: Client, shop: Shop) -> None:
    given = {"customers": ["acme", "nobody"], "dry_run": True}

    answer = await client.post("/api/v1/billing/run", json=given)

    assert answer.status == 404
    assert [one["field"] for one in (await answer.json())["invalid_parameters"]] == ["customers[1]"]


async def test_a_preview_refuses_what_it_does_not_know(client: Client, shop: Shop) -> None:
    path = f"{V1}/customers/acme/invoices/simulate"

    assert await problem(client, path, {"lines": []}) == (400, "invalid_input", ["lines"])
    assert await problem(client, path, {"currency": "dollars"}) == (
        400,
        "invalid_input",
        ["currency"],
    )


async def test_an_invoice_is_read_as_a_pdf_and_as_a_page(
    client: Client, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)
    path = f"{INVOICES}/{found['id']}"

    for answer in (
        await client.get(path, headers={"Accept": "application/pdf"}),
        await client.get(f"{path}/pdf"),
        await client.get(f"/invoices/{found['id']}/pdf"),
    ):
        assert answer.content_type == "application/pdf"
        assert answer.headers["Content-Disposition"] == 'inline; filename="INV-000001.pdf"'
        text = PdfReader(BytesIO(await answer.read())).pages[0].extract_text()
        assert "$0.03" in text
    for answer in (
        await client.get(path, headers={"Accept": "text/html"}),
        await client.get(f"/invoices/{found['id']}"),
    ):
        assert answer.content_type == "text/html"
        assert "15,000 tokens" in await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "private, no-store"


async def test_a_correction_names_the_invoice_that_it_corrects(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await issued(client, shop, clock)
    await shop.use(1_000_000, NOVEMBER + 2 * DAY)  # late
    clock.now = datetime(2027, 1, 1, 1, tzinfo=DECEMBER.tzinfo)
    await shop.bill(clock.now)

    latest = (await read(client, f"{INVOICES}?sort=number desc"))["data"][0]
    page = await (await client.get(f"/invoices/{latest['id']}")).text()

    correction = next(line for line in latest["lines"] if "corrects" in line["explanation"])
    assert correction["totals"]["total"] == "2"
    assert f"Corrects line {correction['explanation']['corrects']} of invoice INV-000001" in page


async def test_a_page_asks_a_browser_for_the_key(
    client: Client, client_of: ClientOf, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)
    nobody = await client_of()

    answer = await nobody.get(f"/invoices/{found['id']}")

    assert answer.status == 401
    assert any("Basic" in value for value in answer.headers.getall("WWW-Authenticate"))


async def test_a_link_shows_one_invoice_until_it_expires(
    client: Client, client_of: ClientOf, server: TestServer, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)
    path = f"{V1}/invoices/{found['id']}/link"
    assert await problem(client, path) == (409, "conflict", [])
    server.app._state[SETTINGS] = server.app[SETTINGS].model_copy(
        update={"invoice_link_secret": SecretStr("0123456789abcdef")}
    )
    nobody = await client_of()

    made = await (await client.post(path, json={"expires_after": "P1D"})).json()

    assert made["expires_at"] == "2026-12-02T01:00:00Z"
    page = await nobody.get(made["path"])
    assert (page.status, "15,000 tokens" in await page.text()) == (200, True)
    assert (await nobody.get(f"{made['path']}/pdf")).content_type == "application/pdf"
    forged = made["path"][:-2] + ("AA" if made["path"][-2:] != "AA" else "BB")
    assert (await nobody.get(forged)).status == 404
    assert (await nobody.get("/i/x.y.z")).status == 404
    clock.now += DAY
    assert (await nobody.get(made["path"])).status == 410


@pytest.mark.parametrize("lasts", ["P0D", "P2Y", "soon"])
async def test_a_link_lasts_a_year_at_most(
    client: Client, shop: Shop, clock: Clock, lasts: str
) -> None:
    found = await issued(client, shop, clock)

    answer = await problem(client, f"{V1}/invoices/{found['id']}/link", {"expires_after": lasts})

    assert answer == (400, "invalid_input", ["expires_after"])


async def test_reading_needs_a_key_and_acting_an_admin(
    client: Client, client_of: ClientOf, shop: Shop, clock: Clock
) -> None:
    found = await issued(client, shop, clock)
    reader, path = await client_of(Scope.READ), f"{INVOICES}/{found['id']}"

    assert (await reader.get(path)).status == 200
    assert (await reader.post(f"{V1}/customers/acme/invoices/simulate")).status == 200
    for action in ("advance", "approve", "retry", "snapshot-quantities"):
        assert (await reader.post(f"{path}/{action}")).status == 403
    assert (await reader.post(f"{V1}/invoices/{found['id']}/void")).status == 403
    assert (await reader.delete(path)).status == 403


async def test_a_flat_fee_has_no_quantity(client: Client, shop: Shop, clock: Clock) -> None:
    fee = await shop.card("fee", FlatPrice(D(20)))
    await shop.plan(fee, key="flat")
    await shop.customer("globex")
    await shop.subscribe("globex", "flat")
    clock.now = NOVEMBER
    await shop.bill(NOVEMBER)

    (line,) = (await only(client))["lines"]

    assert "usage_quantity_detail" not in line
    assert line["totals"]["total"] == "20"


async def test_both_previews_have_the_same_amounts(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await issued(client, shop, clock)
    await shop.use(2_500, NOVEMBER + DAY, model="gpt-4o-mini")  # a correction
    await shop.use(10_001, DECEMBER, model="gpt-4o")
    await shop.use(7_000, DECEMBER, model="gpt-4o-mini", type="response")
    clock.now = DECEMBER + 10 * DAY

    simulated = await act(client, f"{V1}/customers/acme/invoices/simulate")
    (table,) = (await read(client, f"{V1}/customers/acme/preview"))["tables"]

    sums: dict[str, D] = {}
    for row in table["rows"]:
        sums[row["name"]] = sums.get(row["name"], D(0)) + D(row["amount"])
    assert sums == {line["name"]: D(line["totals"]["total"]) for line in simulated["lines"]}
    assert len(sums) == 2
    assert (table["currency"], table["total"]) == (
        simulated["currency"],
        simulated["totals"]["total"],
    )
