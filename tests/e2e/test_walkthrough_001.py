"""The walkthrough "I Built a Token Billing System for My AI Agent", pointed at Tallyman.

Feature `ai_token` counts what OpenAI's models were asked (provider openai, type request), at one
dollar a token. What it clicks in the dashboard is asked of the API here; its calls to the gateway are
recorded log entries of a real Kong, played into the real plugin server.

| call                           | when             | provider  | request | response | billed |
|--------------------------------|------------------|-----------|---------|----------|--------|
| 2 × openai_chat, acme-corp     | before the start | openai    | 2 × 23  | 2 × 11   | 0      |
| 6 × openai_chat, acme-corp     | after it         | openai    | 6 × 23  | 6 × 11   | 6 × 23 |
| 2 × anthropic_chat, acme-corp  | after it         | anthropic | 2 × 37  | 2 × 15   | 0      |
| 1 × openai_chat, globex        | after it         | openai    | 23      | 11       | 0      |

So 138 tokens, which are 138.00 USD.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tallyman.demo import processes, traffic
from tallyman.demo.kong_driver import KongDriver

from tests.integration.api.serving import tallyman
from tests.rigs.plugin import until
from tests.rigs.rest import Rest

CALLS = 6
TOKENS = "kong_konnect_llm_tokens"


class Gateway:
    """Kong with the plugin, as far as the plugin sees it."""

    def __init__(self, kong: KongDriver, collector: Rest) -> None:
        self._kong = kong
        self._instance = kong.start_instance(
            {
                "ingest_endpoint": f"{collector.address}/api/v3/openmeter/events",
                "api_token": collector.key,
            }
        )
        self._recorded = traffic.recorded()
        self._calls = 0

    def call(self, consumer: str, name: str, times: int) -> None:
        """Calls that end now."""
        for _ in range(times):
            self._calls += 1
            entry = traffic.played(
                self._recorded[name], consumer, f"call {self._calls}", time.time_ns() // 1_000_000
            )
            self._kong.log(self._instance, entry)


@contextmanager
def gateway(directory: Path, collector: Rest) -> Iterator[Gateway]:
    """The plugin server with a spool of its own; what it was told is sent when it is left."""
    with processes.plugin_server(directory / "plugin.log") as socket, KongDriver(socket) as kong:
        yield Gateway(kong, collector)


async def test_six_requests_become_a_preview_and_an_invoice_of_what_they_cost(
    tmp_path: Path,
) -> None:
    key = processes.create_key(tmp_path / "data", "test", "admin")
    with processes.collector(tmp_path / "data", tmp_path / "serve.log") as address:
        acme = Rest(address, key)
        with gateway(tmp_path, acme) as kong:
            kong.call("acme-corp", "openai_chat", 2)
            await until(lambda: tokens(acme) == {"acme-corp": 2 * (23 + 11)})
            plan = make_plan(acme, make_feature(acme))
            customer = make_customer(acme)
            start(acme, customer, plan)
            kong.call("acme-corp", "openai_chat", CALLS)
            kong.call("acme-corp", "anthropic_chat", 2)
            kong.call("globex", "openai_chat", 1)
        assert tokens(acme) == {"acme-corp": 8 * (23 + 11) + 2 * (37 + 15), "globex": 23 + 11}

        preview = tallyman(tmp_path, "preview", "acme")
        after_the_period = (datetime.now(UTC) + timedelta(days=32)).isoformat()
        billed = tallyman(tmp_path, "bill", "--ahead", "--at", after_the_period)
        (invoice,) = acme.get(f"billing/invoices?filter[customer_id]={customer}")["data"]
        pdf = acme.file(f"billing/invoices/{invoice['id']}/pdf")

    assert preview.returncode == 0, preview.stderr
    assert re.search(r"ai-token +gpt-4o-2024-08-06 +request +138 .* 138\.00\b", preview.stdout)
    assert "Not yet billed: 138.00 USD" in preview.stdout
    assert billed.returncode == 0, billed.stderr
    assert "1 invoice made or moved: 138.00 USD" in billed.stdout
    assert_six_requests_are_on(invoice)
    assert (pdf[0], pdf[1][:5]) == ("application/pdf", b"%PDF-")


def assert_six_requests_are_on(invoice: Any) -> None:
    (line,) = invoice["lines"]
    usage = line["explanation"]["usage"]
    (window,) = usage["windows"]

    assert (invoice["customer"]["name"], invoice["currency"]) == ("Acme Corp", "USD")
    assert (invoice["totals"]["total"], line["totals"]["total"]) == ("138", "138")
    assert line["usage_quantity_detail"] == {"raw_quantity": "138", "invoiced_quantity": "138"}
    assert line["rate_card"]["price"]["amount"] == "1"
    assert (usage["events"], usage["calls"]) == (CALLS, CALLS)
    assert window["dimensions"] == {"model": "gpt-4o-2024-08-06", "type": "request"}
    assert window["quantity"] == "138"


def tokens(collector: Rest) -> dict[str, int]:
    """Every token that counts, by consumer."""
    asked = {"group_by_dimensions": ["subject"]}
    rows = collector.post(f"meters/{TOKENS}/query", asked)["data"]
    return {row["dimensions"]["subject"]: int(row["value"]) for row in rows}


def make_feature(collector: Rest) -> str:
    """Step 4: a name, a meter, and the slice of it that counts."""
    (meter,) = collector.get(f"meters?filter[key][eq]={TOKENS}")["data"]
    filters = {"provider": {"eq": "openai"}, "type": {"eq": "request"}}
    made = collector.post(
        "features",
        {
            "key": "ai_token",
            "name": "ai-token",
            "meter": {"id": meter["id"], "filters": filters},
        },
        201,
    )

    assert made["meter"]["filters"] == filters
    return str(made["id"])


def make_plan(collector: Rest, feature: str) -> str:
    """Step 5: one dollar a token, and a boolean entitlement; published."""
    card = {
        "key": "ai_token",
        "name": "ai-token",
        "feature": {"id": feature},
        "billing_cadence": "P1M",
        "price": {"type": "unit", "amount": "1"},
        "entitlement": {"type": "boolean"},
    }
    draft = collector.post(
        "plans",
        {
            "key": "starter",
            "name": "Starter",
            "currency": "USD",
            "billing_cadence": "P1M",
            "phases": [{"key": "default", "name": "Default", "rate_cards": [card]}],
        },
        201,
    )
    published = collector.post(f"plans/{draft['id']}/publish")

    assert (draft["status"], published["status"]) == ("draft", "active")
    return str(published["id"])


def make_customer(collector: Rest) -> str:
    """Step 6: the consumer of the gateway becomes what a customer pays for."""
    made = collector.post(
        "customers",
        {
            "key": "acme",
            "name": "Acme Corp",
            "usage_attribution": {"subject_keys": ["acme-corp"]},
        },
        201,
    )
    return str(made["id"])


def start(collector: Rest, customer: str, plan: str) -> dict[str, Any]:
    made: dict[str, Any] = collector.post(
        "subscriptions", {"customer": {"id": customer}, "plan": {"id": plan}}, 201
    )

    assert made["status"] == "active"
    return made
