"""`/profiles`: billing profiles made, read, put anew and deleted, and what bad input gets."""

from typing import Any

import pytest

from tests.integration.api.conftest import Client

PROFILES = "/api/v3/openmeter/profiles"


def profile(**changed: Any) -> dict[str, Any]:
    return {
        "name": "Europe",
        "supplier": {
            "name": "Gateway GmbH",
            "tax_id": {"code": "DE123456789"},
            "addresses": {"billing_address": {"country": "DE", "city": "Berlin"}},
        },
        "workflow": {
            "collection": {"alignment": {"type": "subscription"}, "interval": "P1D"},
            "invoicing": {"auto_advance": False, "draft_period": "P2D"},
            "payment": {"collection_method": "send_invoice", "due_after": "P10D"},
        },
        "default": False,
        **changed,
    }


async def made(client: Client, **changed: Any) -> dict[str, Any]:
    answer = await client.post(PROFILES, json=profile(**changed))
    found: dict[str, Any] = await answer.json()
    assert answer.status == 201, found
    return found


async def every(client: Client) -> list[dict[str, Any]]:
    return list((await (await client.get(PROFILES)).json())["data"])


async def test_a_namespace_has_a_default_profile_from_the_start(client: Client) -> None:
    (found,) = await every(client)

    assert (found["name"], found["default"]) == ("Default", True)
    assert found["workflow"] == {
        "collection": {"alignment": {"type": "subscription"}, "interval": "PT1H"},
        "invoicing": {
            "auto_advance": True,
            "draft_period": "P0D",
            "progressive_billing": True,
            "subscription_end_proration_mode": "bill_actual_period",
        },
        "payment": {"collection_method": "charge_automatically", "due_after": "P30D"},
        "tax": {"enabled": True, "enforced": False},
    }


async def test_a_profile_is_made_and_read(client: Client) -> None:
    found = await made(client, description="For the EU", labels={"region": "eu"})

    assert await (await client.get(f"{PROFILES}/{found['id']}")).json() == found
    assert found["supplier"] == profile()["supplier"]
    assert found["workflow"]["invoicing"] == {
        "auto_advance": False,
        "draft_period": "P2D",
        "progressive_billing": True,
        "subscription_end_proration_mode": "bill_actual_period",
    }
    assert found["workflow"]["payment"] == profile()["workflow"]["payment"]
    assert len(found["apps"]["payment"]["id"]) == 26


async def test_what_is_answered_can_be_sent_again(client: Client) -> None:
    found = await made(
        client,
        workflow={
            "collection": {
                "alignment": {
                    "type": "anchored",
                    "recurring_period": {"anchor": "2026-01-15T00:00:00Z", "interval": "P1M"},
                }
            }
        },
    )
    again = {key: found[key] for key in ("name", "supplier", "workflow", "apps", "default")}

    copy = await made(client, **again)

    assert copy["workflow"] == found["workflow"]


async def test_another_profile_becomes_the_default(client: Client) -> None:
    (before,) = await every(client)

    found = await made(client, default=True)

    assert {one["id"]: one["default"] for one in await every(client)} == {
        before["id"]: False,
        found["id"]: True,
    }
    assert (await client.delete(f"{PROFILES}/{found['id']}")).status == 409
    assert (await client.delete(f"{PROFILES}/{before['id']}")).status == 204
    assert (await client.get(f"{PROFILES}/{before['id']}")).status == 410


async def test_a_profile_is_put_anew(client: Client) -> None:
    found = await made(client)

    answer = await client.put(f"{PROFILES}/{found['id']}", json=profile(name="EU", workflow={}))

    changed = await answer.json()
    assert (answer.status, changed["name"]) == (200, "EU")
    assert changed["workflow"]["collection"]["interval"] == "PT1H"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"colour": "red"}, "colour", id="an unknown field"),
        pytest.param(
            {"workflow": {"collection": {"interval": "an hour"}}},
            "workflow.collection.interval",
            id="no duration",
        ),
        pytest.param(
            {"workflow": {"collection": {"interval": "P65Y788M"}}},
            "workflow.collection.interval",
            id="longer than can be answered",
        ),
        pytest.param(
            {"workflow": {"payment": {"collection_method": "barter"}}},
            "workflow.payment.collection_method",
            id="no such method",
        ),
        pytest.param(
            {
                "apps": {
                    x: {"id": "01K9ZZZZZZZZZZZZZZZZZZZZZZ"} for x in ("tax", "invoicing", "payment")
                }
            },
            "apps.tax.id",
            id="an application that there is not",
        ),
        pytest.param(
            {
                "workflow": {
                    "collection": {
                        "alignment": {
                            "type": "anchored",
                            "recurring_period": {
                                "anchor": "2026-01-15T00:00:00Z",
                                "interval": "PT1M",
                            },
                        }
                    }
                }
            },
            "workflow.collection.alignment.recurring_period.interval",
            id="an invoice every minute",
        ),
    ],
)
async def test_bad_input_names_the_field(
    client: Client, changed: dict[str, Any], field: str
) -> None:
    answer = await client.post(PROFILES, json=profile(**changed))

    problem = await answer.json()
    assert answer.status == 400, problem
    assert [one["field"] for one in problem["invalid_parameters"]] == [field]
    assert len(await every(client)) == 1
