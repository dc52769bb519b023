"""What adds to an entitlement: grants, a limit of a customer's own, and the history of both."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tallyman.config import Settings

from tests.integration.api.conftest import Client
from tests.integration.api.selling import HARD, customer, event, sell, send, subscribe
from tests.integration.api.test_entitlements import access, becomes

OF = "/api/v1/customers/acme/entitlements/tokens"
BY_SUBJECT = "/api/v1/subjects/acme/entitlements/tokens"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Counted often, so that tests need not wait."""
    return settings.model_copy(update={"entitlements_interval_seconds": 0.1})


async def value(client: Client, path: str = OF) -> dict[str, Any]:
    found = await (await client.get(f"{path}/value")).json()
    return {name: found[name] for name in ("hasAccess", "balance", "usage", "overage")}


def said(balance: float, usage: float, overage: float = 0) -> dict[str, Any]:
    return {
        "hasAccess": balance > 0, "balance": balance, "usage": usage, "overage": overage
    }  # fmt: skip


async def granted(client: Client, amount: float, **rest: Any) -> dict[str, Any]:
    body = {"amount": amount, "effectiveAt": now(), **rest}
    answer = await client.post(f"{OF}/grants", json=body)
    found: dict[str, Any] = await answer.json()
    assert answer.status == 201, found
    return found


def now(**shift: float) -> str:
    return (datetime.now(UTC) + timedelta(**shift)).isoformat()


async def test_a_grant_adds_to_the_limit_until_it_is_voided(client: Client) -> None:
    await sell(client, {"tokens": HARD})
    await customer(client, "acme")
    await subscribe(client, "acme")
    await send(client, event("acme", 100))
    limit = 100
    await becomes(lambda: value(client), said(0, limit))

    made = await granted(client, 25, maxRolloverAmount=25, expiration=YEAR, metadata={"why": "x"})
    assert await value(client) == await value(client, BY_SUBJECT) == said(25, limit)
    await send(client, event("acme", 20))
    await becomes(lambda: value(client), said(5, limit + 20))
    listed = await (await client.get(f"{BY_SUBJECT}/grants")).json()
    assert listed == [made]
    assert (made["amount"], made["priority"], made["expiration"]) == (25, 1, YEAR)
    history = await (await client.get(f"{OF}/history?windowSize=DAY")).json()
    assert sum(one["usage"] for one in history["windowedHistory"]) == limit + 20
    last = history["burndownHistory"][-1]
    assert last["grantBalancesAtEnd"] == {"included": 0, made["id"]: 5}
    assert last["grantUsages"] == [{"grantId": made["id"], "usage": 20}]
    assert (await client.delete(f"/api/v1/grants/{made['id']}")).status == 204
    await becomes(lambda: access(client), [("tokens", False)])
    assert (await client.delete(f"/api/v1/grants/{made['id']}")).status == 409


YEAR = {"duration": "YEAR", "count": 1}


async def test_a_customer_may_have_a_limit_of_its_own(client: Client) -> None:
    await sell(client, {"tokens": HARD})
    await customer(client, "acme")
    await subscribe(client, "acme")
    await send(client, event("acme", 110))
    await becomes(lambda: value(client), said(0, 110, 10))

    body = {"type": "metered", "issueAfterReset": 200}
    assert (await client.put(f"{OF}/override", json=body)).status == 204
    assert await value(client) == said(90, 110)
    unlimited = {"type": "metered", "isUnlimited": True}
    assert (await client.put(f"{BY_SUBJECT}/override", json=unlimited)).status == 204
    assert await access(client) == [("tokens", True)]


async def test_a_grant_that_recurs_is_whole_again_each_time(client: Client) -> None:
    await sell(client, {"tokens": HARD})
    await customer(client, "acme")
    begins = datetime.now(UTC).replace(microsecond=0) - timedelta(days=8)
    await subscribe(
        client, "acme", active_from=begins.isoformat(), billing_anchor=begins.isoformat()
    )
    weekly = {"interval": "WEEK", "anchor": (begins + timedelta(days=2)).isoformat()}

    made = await granted(client, 25, effectiveAt=begins.isoformat(), recurrence=weekly)
    odd = await granted(client, 5, recurrence={"interval": "P10D"})
    await send(client, event("acme", 110, begins), event("acme", 7, begins + timedelta(days=3)))

    # Of 110 the grant had paid 10, and is whole again since; of the 7 after that it paid all.
    await becomes(lambda: value(client), said(18 + 5, 117))
    assert made["recurrence"] == {
        "interval": "WEEK", "intervalISO": "P1W", "anchor": at(begins + timedelta(days=2))
    }  # fmt: skip
    assert made["nextRecurrence"] == at(begins + timedelta(days=9))
    assert (odd["recurrence"]["interval"], odd["recurrence"]["anchor"]) == (
        "P10D", odd["effectiveAt"],
    )  # fmt: skip
    assert await (await client.get(f"{OF}/grants")).json() == [made, odd]
    history = await (await client.get(f"{OF}/history?windowSize=DAY")).json()
    assert [one["grantBalancesAtStart"].get(made["id"]) for one in history["burndownHistory"]] == [
        25, 25, 18,
    ]  # fmt: skip


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def test_what_cannot_be_granted_is_refused(client: Client) -> None:
    await sell(client, {"tokens": HARD, "sso": {"type": "boolean"}})
    await customer(client, "acme")
    await subscribe(client, "acme")
    grant = {"amount": 5, "effectiveAt": now()}
    for path, body, status in (
        (f"{OF}/grants", {**grant, "amount": 0}, 400),
        (f"{OF}/grants", {**grant, "effectiveAt": now(days=-400)}, 400),
        (f"{OF}/grants", {**grant, "recurrence": {}}, 400),
        (f"{OF}/grants", {**grant, "recurrence": {"interval": "HOUR"}}, 400),
        (f"{OF}/grants", {**grant, "recurrence": {"interval": "PT23H"}}, 400),
        (f"{OF.replace('tokens', 'sso')}/grants", grant, 400),
        (f"{OF.replace('tokens', 'nope')}/grants", grant, 404),
        (f"{BY_SUBJECT.replace('acme', 'nobody')}/grants", grant, 404),
    ):
        assert (await client.post(path, json=body)).status == status, (path, body)
    for query in ("", "?windowSize=WEEK", "?windowSize=MINUTE&from=2200-01-01T00:00:00Z"):
        assert (await client.get(f"{OF}/history{query}")).status == 400, query
    assert (await client.delete("/api/v1/grants/01ARZ3NDEKTSV4RRFFQ69G5FAV")).status == 404
    both = {"type": "metered", "issueAfterReset": 1, "isUnlimited": True}
    assert (await client.put(f"{OF}/override", json=both)).status == 400
