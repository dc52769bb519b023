"""Owns what neighbours ask of invoices and what follows from them, of apps, and of a sandbox.

A shop before its first invoice is asked_of_a_shop.py's.
"""

from dataclasses import replace
from typing import Any, Final

from aiohttp.test_utils import TestServer
from tallyman.api.state import BOOKS
from tallyman.domain.access import Scope
from tallyman.domain.billing_profile import App
from tallyman.domain.invoice_state import InvoiceState

from tests.integration.api.conftest import ClientOf, Clock
from tests.integration.api.invoicing import INVOICES, V1
from tests.integration.api.neighbours import (
    ACME,
    CANARY,
    SANDBOX,
    THEIRS,
    Neighbours,
)
from tests.integration.api.selling import HARD, customer, sell, subscribe
from tests.rigs.shop import COLLECTED, DECEMBER

API: Final = "/api/v3/openmeter"


async def ask_about_invoices(ask: Neighbours, clock: Clock) -> None:
    shop, run = ask.shop, f"{V1}/run"
    acme = await shop.books.customers.get(THEIRS, ACME)
    await shop.change_workflow(auto_advance=False)
    await ask.tell("simulate-invoice", f"{V1}/customers/{ACME}/invoices/simulate", {})
    await ask.tell("preview-customer", f"{V1}/customers/{ACME}/preview")
    await ask.tell("run-billing", run, {"customers": [acme.id]})
    draft = f"{INVOICES}/{(await _which_may(ask, 'snapshot_quantities'))['id']}"
    await ask.tell("snapshot-quantities-invoice", f"{draft}/snapshot-quantities")
    await ask.tell("delete-invoice", draft)
    version = await shop.plans.active(THEIRS, f"{CANARY}_plan", DECEMBER)
    card = next(one for one in version.phases[0].rate_cards if one.feature is not None)
    meter_id = await shop.set_meter(card, None)  # so it cannot be rated
    await ask.tell("run-billing", run, {"customers": [ACME]})
    found = await _which_may(ask, "snapshot_quantities")
    at, of_it = f"{INVOICES}/{found['id']}", f"{V1}/invoices/{found['id']}"
    clock.now += COLLECTED
    await ask.tell("advance-invoice", f"{at}/advance")
    await shop.set_meter(card, meter_id)
    await ask.tell("retry-invoice", f"{at}/retry")
    said = {
        "type": "standard", "description": CANARY, "supplier": {"name": "We"},
        "customer": {"id": acme.id, "name": CANARY}, "workflow": {"workflow": {}},
    }  # fmt: skip
    await ask.tell("update-invoice", at, said)
    await ask.tell("approve-invoice", f"{at}/approve")
    status = f"{of_it}/payment/status"
    await ask.tell("report-invoice-payment", status, {"trigger": "payment_failed"})
    await _read_an_invoice(ask, found["id"])
    await _put_right(ask, at, of_it)


async def _which_may(ask: Neighbours, action: str) -> dict[str, Any]:
    """An invoice for which there is this action."""
    every: list[dict[str, Any]] = (await ask.tell("list-invoices", INVOICES))["data"]
    return next(one for one in every if action in one["status_details"]["available_actions"])


async def _read_an_invoice(ask: Neighbours, id_: str) -> None:
    at = f"{INVOICES}/{id_}"
    found = await ask.tell("get-invoice", at)
    await ask.tell("get-invoice", f"{INVOICES}/{found['number']}")
    await ask.tell("get-invoice-pdf", f"{at}/pdf")
    await ask.tell("invoice-page", f"/invoices/{id_}")
    await ask.tell("invoice-page-pdf", f"/invoices/{id_}/pdf")
    await ask.tell("link-invoice", f"{V1}/invoices/{id_}/link", {"expires_after": "P1D"})
    await ask.tell("check-invoice", f"{at}/lines")
    for line in found["lines"]:
        if line.get("usage_quantity_detail"):
            await ask.tell("explain-invoice-line", f"{at}/lines/{line['id']}/usage")
    await ask.tell("usage-statement", f"{V1}/customers/{ACME}/statement?month=2026-11")


async def _put_right(ask: Neighbours, at: str, of_it: str) -> None:
    """Credit notes, refunds, and a period rated again."""
    lines = (await ask.tell("get-invoice", at))["lines"]
    usage = next(line for line in lines if line.get("usage_quantity_detail"))
    some = {"reason": CANARY, "lines": [{"line_id": usage["id"], "amount": "0.01"}]}
    notes = f"{API}/billing/credit-notes"
    note = await ask.tell("create-credit-note", f"{at}/credit-notes", some)
    await ask.tell("list-credit-notes", notes)
    await ask.tell("get-credit-note", f"{notes}/{note['id']}")
    await ask.tell("get-credit-note-pdf", f"{notes}/{note['id']}/pdf")
    await ask.tell("credit-note-page", f"/credit-notes/{note['id']}")
    await ask.tell("credit-note-page-pdf", f"/credit-notes/{note['id']}/pdf")
    await ask.tell("void-credit-note", f"{notes}/{note['id']}/void")
    price = {"key": f"{CANARY}_tokens", "price": {"type": "unit", "amount": "0.000001"}}
    period = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    again = {**period, "reason": "x", "prices": [price]}
    await ask.tell("re-rate-customer", f"{API}/billing/customers/{ACME}/re-rate", again)
    await ask.tell("report-invoice-payment", f"{of_it}/payment/status", {"trigger": "paid"})
    back = {"reason": CANARY, "amount": "0.01"}
    refund = await ask.tell("create-refund", f"{at}/refunds", back)
    await ask.tell("list-refunds", f"{API}/billing/refunds")
    await ask.tell("get-refund", f"{API}/billing/refunds/{refund['id']}")
    other = await _which_may(ask, "approve")
    await ask.tell("approve-invoice", f"{INVOICES}/{other['id']}/approve")
    await ask.tell("void-invoice", f"{V1}/invoices/{other['id']}/void", {"action": "pending"})


async def ask_about_apps(ask: Neighbours) -> None:
    new = {"type": "external_invoicing", "name": CANARY, "create_billing_profile": False}
    made = (await ask.tell("install-app", f"{API}/app-catalog/install", new))["app"]
    at = f"{API}/apps/{made['id']}"
    assert CANARY in str(await ask.tell("list-apps", f"{API}/apps"))
    await ask.tell("get-app", at)
    hooks = {"enable_draft_sync_hook": False, "enable_issuing_sync_hook": True}
    await ask.tell("update-app", at, {"type": made["type"], "name": CANARY, **hooks})
    await ask.tell("uninstall-app", at)
    [*_, last] = (await ask.shop.books.invoices.page(THEIRS))[0]
    waits = replace(last, app=App.EXTERNAL_INVOICING, state=InvoiceState.ISSUING_SYNCING)
    await ask.shop.books.invoices.replace(THEIRS, [(last, waits)])
    await ask.tell("synchronize-invoice", f"{V1}/invoices/{waits.id}/synchronized")
    assert CANARY in str(await ask.tell("list-audit-log", "/api/v1/audit-log"))


async def ask_about_a_sandbox(ask: Neighbours, server: TestServer, client_of: ClientOf) -> None:
    await server.app[BOOKS].sandboxes.open(SANDBOX)
    owner = await client_of(Scope.ADMIN, namespace=SANDBOX)
    clocks, time = "/api/v1/test-clocks", {"frozen_time": "2028-01-31T00:00:00Z"}

    async def tell(name: str, path: str, body: Any = None) -> dict[str, Any]:
        return await ask.tell(name, path, body, at=SANDBOX)

    made = await tell("create-test-clock", clocks, {**time, "name": CANARY})
    assert CANARY in str(await tell("list-test-clocks", clocks))
    await tell("get-test-clock", f"{clocks}/{made['id']}")
    calls, acme = f"{CANARY}_calls", f"{CANARY}_acme"
    await sell(owner, {calls: HARD}, f"{CANARY}_pro")
    await customer(owner, acme)
    await subscribe(owner, acme, f"{CANARY}_pro")
    later = {"frozen_time": "2028-01-31T02:00:00Z"}
    await tell("advance-test-clock", f"{clocks}/{made['id']}/advance", later)
    await tell("list-customer-entitlement-access", f"{API}/customers/{acme}/entitlement-access")
    found = await tell(
        "query-entitlement-access",
        f"{API}/entitlement-access/query",
        {"customer": {"keys": [acme]}},
    )
    assert [one["customer"]["key"] for one in found["data"]] == [acme]
    v2 = f"/api/v2/customers/{acme}/entitlements/{calls}"
    await tell("get-entitlement-value", f"{v2}/value")
    grant = {"amount": 25, "effectiveAt": time["frozen_time"]}
    limit = {"type": "metered", "issueAfterReset": 7}
    for whose in ("customer", "subject"):
        path = f"/api/v1/{whose}s/{acme}/entitlements/{calls}"
        await tell(f"get-{whose}-entitlement-value", f"{path}/value")
        made = await tell(f"create-{whose}-entitlement-grant", f"{path}/grants", grant)
        await tell(f"list-{whose}-entitlement-grants", f"{path}/grants")
        await tell(f"get-{whose}-entitlement-history", f"{path}/history?windowSize=DAY")
        await tell(f"override-{whose}-entitlement", f"{path}/override", limit)
    for whose in ("customer", "subject"):
        path = f"/api/v1/{whose}s/{acme}/entitlements/{calls}"
        await tell(f"reset-{whose}-entitlement", f"{path}/reset", {})
    await tell("reset-entitlement", f"{v2}/reset", {})
    await tell("void-entitlement-grant", f"/api/v1/grants/{made['id']}")
