"""Credit notes, refunds and re-ratings over the API: made, listed, shown, and refused by name."""

from io import BytesIO
from typing import Any

from pypdf import PdfReader
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.integration.api.invoicing import INVOICES, V1, act, read
from tests.integration.api.test_invoices import issued
from tests.rigs.shop import Shop

NOTES = "/api/v3/openmeter/billing/credit-notes"
REFUNDS = "/api/v3/openmeter/billing/refunds"
RE_RATE = "/api/v3/openmeter/billing/customers/acme/re-rate"
NOVEMBER = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}


async def make(client: Client, path: str, body: object) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    found: dict[str, Any] = await answer.json()
    assert answer.status == 201, found
    return found


async def refused(client: Client, path: str, body: object, status: int = 400) -> list[str]:
    """The fields that it is refused for."""
    answer = await client.post(path, json=body)
    found = await answer.json()
    assert answer.status == status, found
    return [one["field"] for one in found["invalid_parameters"]]


async def test_a_credit_note_is_made_listed_and_shown(
    client: Client, shop: Shop, clock: Clock
) -> None:
    invoice = await issued(client, shop, clock)
    (line,) = invoice["lines"]
    body = {"reason": "an outage", "lines": [{"line_id": line["id"], "amount": "0.01"}]}

    made = await make(client, f"{INVOICES}/{invoice['number']}/credit-notes", body)

    assert (made["number"], made["total"], made["kind"]) == ("CN-000001", "0.01", "goodwill")
    assert made["invoice"] == {"id": invoice["id"], "number": "INV-000001"}
    assert (made["lines"][0]["line_id"], made["after_payment"]) == (line["id"], False)
    assert await read(client, f"{NOTES}/CN-000001") == made
    found = await read(client, f"{NOTES}?filter[invoice_id]={invoice['id']}&sort=number desc")
    assert (found["data"], found["meta"]["page"]["total"]) == ([made], 1)
    assert (await read(client, f"{NOTES}?filter[kind]=correction"))["data"] == []
    assert await read(client, f"{INVOICES}/{invoice['id']}") == invoice


async def test_a_credit_note_is_taken_back_and_the_audit_log_says_why(
    client: Client, shop: Shop, clock: Clock
) -> None:
    invoice = await issued(client, shop, clock)
    line = {"line_id": invoice["lines"][0]["id"], "amount": "0.01"}
    body = {"reason": "an outage", "lines": [line]}
    first = await make(client, f"{INVOICES}/{invoice['id']}/credit-notes", body)
    second = await make(client, f"{INVOICES}/{invoice['id']}/credit-notes", body)

    why = {"reason": "there was no outage"}
    voided = await act(client, f"{NOTES}/{first['id']}/void", why)
    bare = await client.post(f"{NOTES}/{second['id']}/void")

    assert (bare.status, (await bare.json())["number"]) == (200, "CN-000002")
    assert voided == {**first, "status": "voided", "voided_at": voided["voided_at"]}
    log = await read(client, f"/api/v1/audit-log?filter[resource_id]={first['id']}")
    assert [one["action"] for one in log["data"]] == ["voided", "created"]
    assert log["data"][0]["after"]["void_reason"] == "there was no outage"
    assert await refused(client, f"{NOTES}/{first['id']}/void", {"reason": ""}) == ["reason"]


async def test_a_credit_note_is_a_page_and_a_pdf(client: Client, shop: Shop, clock: Clock) -> None:
    invoice = await issued(client, shop, clock)
    body = {"reason": "an outage", "lines": [{"line_id": invoice["lines"][0]["id"]}]}
    made = await make(client, f"{INVOICES}/{invoice['id']}/credit-notes", body)

    page = await (await client.get(f"/credit-notes/{made['id']}")).text()
    pdf = await (await client.get(f"/credit-notes/{made['id']}/pdf")).read()
    preferred = await client.get(f"{NOTES}/{made['id']}", headers={"Accept": "application/pdf"})

    text = " ".join(" ".join(one.extract_text() for one in PdfReader(BytesIO(pdf)).pages).split())
    for said in ("Credit note CN-000001", "Invoice INV-000001 is owed less by", "an outage"):
        assert said in page
        assert said in text
    assert "-0.03" in text.replace("−", "-").replace("$", "")
    assert await preferred.read() == pdf


async def test_what_cannot_be_taken_or_given_back_is_refused_by_name(
    client: Client, shop: Shop, clock: Clock
) -> None:
    invoice = await issued(client, shop, clock)
    notes = f"{INVOICES}/{invoice['id']}/credit-notes"
    line = {"line_id": invoice["lines"][0]["id"]}

    def of(**amount: str) -> dict[str, Any]:
        return {"reason": "x", "lines": [{**line, **amount}]}

    bad = ["lines[0].amount"]
    assert await refused(client, notes, of(amount="0.04")) == bad
    assert await refused(client, notes, of(amount="0.001")) == bad
    assert await refused(client, notes, of(amount="-1")) == bad
    assert await refused(client, notes, {"lines": []}) == ["reason", "lines"]
    correction = {"reason": "x", "kind": "correction"}
    assert await refused(client, notes, correction) == ["kind"]
    assert await refused(client, notes, {**of(), **correction}) == ["lines"]
    refunds = f"{INVOICES}/{invoice['id']}/refunds"
    assert await refused(client, refunds, {"reason": "x"}) == ["amount"]
    again = {**NOVEMBER, "reason": "x"}
    assert await refused(client, RE_RATE, again) == ["plan"]
    nothing = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert await refused(client, RE_RATE, {**again, "plan": {"id": nothing}}, 404) == ["plan.id"]
    of_no_note = {"reason": "x", "credit_note_id": nothing}
    assert await refused(client, refunds, of_no_note, 404) == ["credit_note_id"]
    price = {"key": "tokens", "price": {"type": "unit", "amount": "-1"}}
    assert await refused(client, RE_RATE, {**again, "prices": [price]}) == [
        "prices.tokens.price.amount"
    ]


async def test_what_was_paid_is_given_back(client: Client, shop: Shop, clock: Clock) -> None:
    invoice = await issued(client, shop, clock)
    await act(client, f"{V1}/invoices/{invoice['id']}/payment/status", {"trigger": "paid"})
    path = f"{INVOICES}/{invoice['id']}/refunds"

    made = await make(client, path, {"reason": "an outage", "amount": "0.02", "key": "a"})
    again = await make(client, path, {"reason": "an outage", "amount": "0.02", "key": "a"})

    assert (made["status"], made["amount"], again) == ("succeeded", "0.02", made)
    assert await read(client, f"{REFUNDS}/{made['id']}") == made
    assert (await read(client, f"{REFUNDS}?filter[customer_id]={made['customer_id']}"))["data"] == [
        made
    ]
    assert await refused(client, path, {"reason": "x", "amount": "0.02"}) == ["amount"]


async def test_a_wrong_price_is_shown_and_put_right(
    client: Client, client_of: ClientOf, shop: Shop, clock: Clock
) -> None:
    invoice = await issued(client, shop, clock)
    await act(client, f"{V1}/invoices/{invoice['id']}/payment/status", {"trigger": "paid"})
    price = {"key": "tokens", "price": {"type": "unit", "amount": "0.000001"}}
    body = {**NOVEMBER, "reason": "typed wrong", "prices": [price]}
    now = {"timing": "credit_note", "refund": True}

    shown = await act(client, RE_RATE, {**body, "dry_run": True})
    made = await act(client, RE_RATE, {**body, **now})
    again = await act(client, RE_RATE, {**body, **now})

    (difference,) = shown["differences"]
    assert (difference["billed"], difference["now"], difference["difference"]) == (
        "0.03", "0.02", "-0.01",
    )  # fmt: skip
    assert (shown["totals"], "id" in shown) == ({"USD": "-0.01"}, False)
    assert [note["total"] for note in made["credit_notes"]] == ["0.01"]
    assert made["differences"][0]["credit_note"] == "CN-000001"
    assert (again["differences"], again["credit_notes"], "id" in again) == ([], [], False)
    assert [one["amount"] for one in (await read(client, REFUNDS))["data"]] == ["0.01"]
    biller = await client_of(Scope.BILLING)
    assert (await biller.post(RE_RATE, json=body)).status == 403
