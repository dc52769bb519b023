"""Owns how tests of the API sell: a meter, a feature, a plan in force, customers, subscriptions."""

import itertools
from datetime import UTC, datetime
from typing import Any, Final

from tests.integration.api.conftest import Client

API: Final = "/api/v3/openmeter"
SUBSCRIPTIONS: Final = f"{API}/subscriptions"
HARD: Final = {"type": "metered", "limit": 100}
_numbers = itertools.count()


async def created(client: Client, path: str, body: dict[str, Any], status: int = 201) -> Any:
    answer = await client.post(path if path.startswith("/") else f"{API}/{path}", json=body)
    found = await answer.json()
    assert answer.status == status, found
    return found


async def sell(
    client: Client,
    features: dict[str, dict[str, Any] | None] | None = None,
    plan: str = "starter",
) -> dict[str, Any]:
    """A plan in force that sells features, each by tokens and with its entitlement."""
    meter = {
        "key": f"{plan}_tokens", "name": "Tokens", "aggregation": "sum", "event_type": "call",
        "value_property": "$.tokens",
    }  # fmt: skip
    meter_id = (await created(client, "meters", meter))["id"]
    cards = []
    for key, entitlement in (features or {"tokens": None}).items():
        feature = {"key": key, "name": key, "meter": {"id": meter_id}}
        found = await created(client, "features", feature)
        card = {
            "key": key, "name": key, "feature": {"id": found["id"]}, "billing_cadence": "P1M",
            "price": {"type": "unit", "amount": "0.000002"},
        }  # fmt: skip
        cards.append(card if entitlement is None else {**card, "entitlement": entitlement})
    draft = await created(
        client,
        "plans",
        {
            "key": plan, "name": plan.title(), "currency": "USD", "billing_cadence": "P1M",
            "phases": [{"key": "only", "name": "Only", "rate_cards": cards}],
        },
    )  # fmt: skip
    published: dict[str, Any] = await created(client, f"plans/{draft['id']}/publish", {}, 200)
    return published


async def customer(client: Client, key: str, *subjects: str) -> dict[str, Any]:
    attribution = {"subject_keys": list(subjects or (key,))}
    body = {"key": key, "name": key, "usage_attribution": attribution}
    made: dict[str, Any] = await created(client, "customers", body)
    return made


async def subscribe(
    client: Client, customer_key: str, plan: str = "starter", **rest: Any
) -> dict[str, Any]:
    body = {"customer": {"key": customer_key}, "plan": {"key": plan}, **rest}
    made: dict[str, Any] = await created(client, "subscriptions", body)
    return made


def event(subject: str, tokens: int, at: datetime | None = None) -> dict[str, Any]:
    return {
        "id": str(next(_numbers)), "source": "test", "specversion": "1.0", "type": "call",
        "subject": subject, "time": (at or datetime.now(UTC)).isoformat(),
        "data": {"tokens": tokens},
    }  # fmt: skip


async def send(client: Client, *events: dict[str, Any]) -> None:
    answer = await client.post(f"{API}/events", json=list(events))
    assert answer.status == 202, await answer.text()
