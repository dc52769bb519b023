"""`/apps` and `/app-catalog` without Stripe: what can be installed, and invoices sent by somebody else."""

from typing import Any

import pytest
from tallyman.api.app_bodies import app_id
from tallyman.domain.billing_profile import App

from tests.integration.api.conftest import Client
from tests.integration.api.test_stripe import CUSTOMERS, OPENMETER, acme, ask, subscribe

APPS = f"{OPENMETER}/apps"
INSTALL = f"{OPENMETER}/app-catalog/install"
EXTERNAL = f"{APPS}/{app_id(App.EXTERNAL_INVOICING)}"
INVOICES = f"{OPENMETER}/billing/invoices"
NEW = {"type": "external_invoicing", "name": "Our ERP", "create_billing_profile": True}


async def external(client: Client, *, draft: bool = False, issuing: bool = False) -> None:
    """Everybody is invoiced outside; invoices wait there where that is asked for."""
    await ask(client, "POST", INSTALL, NEW)
    hooks = {"enable_draft_sync_hook": draft, "enable_issuing_sync_hook": issuing}
    body = {"type": "external_invoicing", "name": "Our ERP", **hooks}
    status, found = await ask(client, "PUT", EXTERNAL, body)
    assert (status, found | hooks) == (200, found)
    _, page = await ask(client, "GET", f"{OPENMETER}/profiles")
    [made] = [one for one in page["data"] if one["name"] == "Our ERP"]
    put = {name: made[name] for name in ("name", "supplier", "workflow")} | {"default": True}
    status, problem = await ask(client, "PUT", f"{OPENMETER}/profiles/{made['id']}", put)
    assert status == 200, problem


async def billed(client: Client) -> dict[str, Any]:
    """Acme's invoice after a billing run."""
    await acme(client)
    await subscribe(client)
    run = {"at": "2026-11-30T00:00:00Z", "ahead": True}
    answer = await client.post("/api/v1/billing/run", json=run)
    await answer.read()
    return await the_invoice(client)


async def the_invoice(client: Client) -> dict[str, Any]:
    _, page = await ask(client, "GET", INVOICES)
    [found] = page["data"]
    return dict(found)


def extended(invoice: dict[str, Any]) -> str:
    return str(invoice["status_details"]["extended_status"])


async def synchronize(client: Client, invoice: dict[str, Any], **said: str) -> tuple[int, Any]:
    return await ask(client, "POST", f"/api/v1/billing/invoices/{invoice['id']}/synchronized", said)


async def test_the_catalogue_has_every_app(client: Client) -> None:
    _, page = await ask(client, "GET", f"{OPENMETER}/app-catalog")
    _, one = await ask(client, "GET", f"{OPENMETER}/app-catalog/stripe")
    missing, _ = await ask(client, "GET", f"{OPENMETER}/app-catalog/paypal")
    answer = await client.get(INSTALL)

    types = [item["type"] for item in page["data"]]
    assert types == ["external_invoicing", "sandbox", "stripe"]
    assert one in page["data"]
    assert one["install_methods"] == ["with_api_key"]
    assert missing == 404
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_external_invoicing_is_installed_once_with_a_profile_of_its_own(
    client: Client,
) -> None:
    status, made = await ask(client, "POST", INSTALL, NEW)
    again, problem = await ask(client, "POST", INSTALL, NEW)
    _, profiles = await ask(client, "GET", f"{OPENMETER}/profiles")

    assert (status, made["app"]["name"], again) == (201, "Our ERP", 409)
    assert problem["code"] == "conflict"
    [its] = [one for one in profiles["data"] if one["name"] == "Our ERP"]
    assert (its["apps"]["invoicing"]["id"], its["default"]) == (made["app"]["id"], False)
    assert (await ask(client, "GET", EXTERNAL))[1] == made["app"]


async def test_an_app_that_a_profile_has_stays_and_one_that_none_has_goes(client: Client) -> None:
    await ask(client, "POST", INSTALL, NEW)
    used, _ = await ask(client, "DELETE", EXTERNAL)
    _, page = await ask(client, "GET", f"{OPENMETER}/profiles")
    [its] = [one["id"] for one in page["data"] if one["name"] == "Our ERP"]
    await client.delete(f"{OPENMETER}/profiles/{its}")
    gone = await client.delete(EXTERNAL)
    sandbox, _ = await ask(client, "DELETE", f"{APPS}/{app_id(App.SANDBOX)}")
    _, left = await ask(client, "GET", APPS)

    assert (used, gone.status, sandbox) == (409, 204, 409)
    assert [one["type"] for one in left["data"]] == ["sandbox"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        pytest.param(NEW | {"type": "sandbox"}, 409, None, id="the sandbox is there"),
        pytest.param(NEW | {"type": "stripe", "api_key": "sk_x"}, 409, None, id="no Stripe here"),
        pytest.param(NEW | {"type": "stripe"}, 400, "api_key", id="Stripe without a key"),
        pytest.param(NEW | {"api_key": "sk_x"}, 400, "api_key", id="a key where none belongs"),
        pytest.param({"type": "external_invoicing"}, 400, "name", id="no name"),
    ],
)
async def test_what_cannot_be_installed_is_refused(
    client: Client, body: dict[str, Any], status: int, field: str | None
) -> None:
    found, problem = await ask(client, "POST", INSTALL, body)

    assert found == status
    if field is not None:
        assert field in [one["field"] for one in problem["invalid_parameters"]]
    assert "sk_x" not in str(problem)


async def test_an_app_is_renamed_and_not_made_another(client: Client) -> None:
    sandbox = f"{APPS}/{app_id(App.SANDBOX)}"
    named = {"type": "sandbox", "name": "Nobody pays", "labels": {"a": "b"}}
    status, found = await ask(client, "PUT", sandbox, named)
    other, problem = await ask(client, "PUT", sandbox, {"type": "stripe", "name": "Stripe"})

    assert (status, found["name"], found["labels"]) == (200, "Nobody pays", {"a": "b"})
    assert (await ask(client, "GET", sandbox))[1] == found
    assert (other, problem["invalid_parameters"][0]["field"]) == (400, "type")


async def test_without_hooks_an_invoice_is_issued_and_its_payment_reported(client: Client) -> None:
    await external(client)
    invoice = await billed(client)
    assert extended(invoice) == "payment_processing.pending"

    path = f"/api/v1/billing/invoices/{invoice['id']}/payment/status"
    await ask(client, "POST", path, {"trigger": "paid"})

    assert (await the_invoice(client))["status"] == "paid"


async def test_with_hooks_an_invoice_waits_until_it_is_outside(client: Client) -> None:
    await external(client, draft=True, issuing=True)
    draft = await billed(client)
    _, issuing = await synchronize(client, draft, invoicing_id="ERP-7")
    _, issued = await synchronize(
        client, issuing, payment_id="P-7", sent_to_customer_at="2026-11-30T12:00:00Z"
    )
    late, problem = await synchronize(client, issued)

    states = [extended(one) for one in (draft, issuing, issued)]
    assert states == ["draft.syncing", "issuing.syncing", "payment_processing.pending"]
    assert issued["external_references"] == {"invoicing_id": "ERP-7", "payment_id": "P-7"}
    assert issued["sent_to_customer_at"] == "2026-11-30T12:00:00Z"
    assert issued["totals"]["total"] == "20"
    assert (late, problem["code"]) == (400, "invoice_action_not_available")


async def test_an_invoice_that_waits_outside_is_deleted_at_once(client: Client) -> None:
    await external(client, draft=True, issuing=True)
    draft = await billed(client)

    gone = await client.delete(f"{INVOICES}/{draft['id']}")
    read, _ = await ask(client, "GET", f"{INVOICES}/{draft['id']}")

    assert (gone.status, read) == (204, 410)


async def test_an_invoice_of_the_sandbox_is_not_synchronized(client: Client) -> None:
    status, problem = await synchronize(client, await billed(client))

    assert (status, problem["code"]) == (400, "invoice_action_not_available")


async def test_what_a_customer_is_outside_is_kept(client: Client) -> None:
    await acme(client)
    path = f"{CUSTOMERS}/acme/billing/app-data"
    given = {"external_invoicing": {"labels": {"debtor": "4711"}}}

    _, put = await ask(client, "PUT", path, given)
    _, billing = await ask(client, "GET", f"{CUSTOMERS}/acme/billing")
    await ask(client, "PUT", path, {})
    _, cleared = await ask(client, "GET", f"{CUSTOMERS}/acme/billing")

    assert put == given
    assert billing["app_data"] == given
    assert cleared["app_data"] == {}
