"""Owns how tests of the API read invoices and act on them."""

from typing import Any

from tests.integration.api.conftest import Client

INVOICES = "/api/v3/openmeter/billing/invoices"
V1 = "/api/v1/billing"


async def read(client: Client, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    found: dict[str, Any] = await answer.json()
    assert answer.status == 200, found
    return found


async def act(client: Client, path: str, body: object = None) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    found: dict[str, Any] = await answer.json()
    assert answer.status == 200, found
    return found


async def problem(client: Client, path: str, body: object = None) -> tuple[int, str, list[str]]:
    answer = await client.post(path, json=body)
    found = await answer.json()
    return answer.status, found["code"], [p["field"] for p in found.get("invalid_parameters", [])]


async def only(client: Client) -> dict[str, Any]:
    (found,) = (await read(client, INVOICES))["data"]
    return dict(found)
