"""`/api/v1/test-clocks`: a sandbox has its own time, and everybody else's stays what it is."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from tallyman import app, connections
from tallyman.api.state import BOOKS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman.errors import ConfigurationError
from tallyman.store.sandboxes import Sandboxes

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.invoicing import INVOICES, read
from tests.integration.api.selling import HARD, SUBSCRIPTIONS, created, customer, sell, subscribe

CLOCKS = "/api/v1/test-clocks"
START = "2028-01-31T00:00:00Z"


async def sandbox(client_of: ClientOf, server: TestServer, namespace: str = "play") -> Client:
    """An admin's client in a new sandbox."""
    await server.app[BOOKS].sandboxes.open(namespace)
    return await client_of(Scope.ADMIN, namespace=namespace)


async def refused(client: Client, path: str, body: dict[str, Any]) -> tuple[int, str]:
    answer = await client.post(path, json=body)
    found = await answer.json()
    return answer.status, found["code"]


async def test_a_sandbox_sells_and_bills_by_its_own_clock(
    client_of: ClientOf, server: TestServer
) -> None:
    client = await sandbox(client_of, server)
    clock = await created(client, CLOCKS, {"name": "a year", "frozen_time": START})
    await sell(client, {"tokens": HARD})
    await customer(client, "acme")
    begun = await subscribe(client, "acme")
    sent = {
        "id": "1", "source": "test", "specversion": "1.0", "type": "call", "subject": "acme",
        "data": {"tokens": 70},
    }  # fmt: skip
    answer = await client.post("/api/v3/openmeter/events", json=sent)
    assert answer.status == 202
    entitled = "/api/v2/customers/acme/entitlements/tokens/value"

    moved = await created(
        client, f"{CLOCKS}/{clock['id']}/advance", {"frozen_time": "2028-02-29T02:00:00Z"}, 200
    )

    assert begun["billing_anchor"] == START
    assert (moved["status"], moved["frozen_time"]) == ("ready", "2028-02-29T02:00:00Z")
    assert (await read(client, CLOCKS))["data"] == [moved]
    assert await read(client, f"{CLOCKS}/{clock['id']}") == moved
    (invoice,) = (await read(client, INVOICES))["data"]
    assert invoice["issued_at"] == "2028-02-29T01:00:00Z"
    assert invoice["service_period"] == {"from": START, "to": "2028-02-29T00:00:00Z"}
    left = await read(client, entitled)
    assert (left["usagePeriod"]["from"], left["usage"]) == ("2028-02-29T00:00:00Z", 0)
    usage = await read(client, "/api/usage?subject=acme")
    assert usage["period"]["from"] == "2028-02-29T00:00:00Z"


async def test_the_time_of_other_namespaces_stays_what_it_is(
    client_of: ClientOf, server: TestServer
) -> None:
    client, real = await sandbox(client_of, server), await client_of(Scope.ADMIN)
    await created(client, CLOCKS, {"frozen_time": START})
    await sell(real)
    await customer(real, "acme")

    begun = await subscribe(real, "acme")

    assert begun["billing_anchor"] < START
    assert (await read(real, CLOCKS))["data"] == []
    (listed,) = (await read(real, SUBSCRIPTIONS))["data"]
    assert listed["status"] == "active"


async def test_a_real_namespace_refuses_a_clock_and_a_clock_what_it_cannot_do(
    client_of: ClientOf, server: TestServer
) -> None:
    client, real = await sandbox(client_of, server), await client_of(Scope.ADMIN)
    clock = await created(client, CLOCKS, {"frozen_time": START})
    advance = f"{CLOCKS}/{clock['id']}/advance"

    assert await refused(real, CLOCKS, {"frozen_time": START}) == (409, "conflict")
    assert await refused(client, CLOCKS, {"frozen_time": START}) == (409, "conflict")
    assert await refused(real, advance, {"frozen_time": START}) == (404, "not_found")
    for wrong in ("2028-01-30T23:59:59Z", "2031-01-01T00:00:00Z"):
        assert await refused(client, advance, {"frozen_time": wrong}) == (400, "invalid_input")
    assert (await read(client, CLOCKS))["data"] == [clock]


async def test_a_server_that_takes_real_money_does_not_bill_a_sandbox(tmp_path: Path) -> None:
    live = Settings(
        data_dir=tmp_path,
        stripe_api_key=SecretStr("sk_live_x"),
        stripe_live=True,
        stripe_webhook_secret=SecretStr("whsec_x"),
        stripe_namespace="play",
    )
    database = connections.open_database(live)
    await database.migrate()
    await Sandboxes(database).open("play")
    await database.close()

    with pytest.raises(ConfigurationError, match="stripe_namespace play is a sandbox"):
        async with TestServer(app.build(live)):
            pass
