"""`POST /api/v1/catalogue/compare`: what a file would change, by request."""

from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf

COMPARE = "/api/v1/catalogue/compare"
FEATURE = "features:\n  - {key: support, name: Support}\n"


async def test_a_file_is_compared_and_nothing_is_changed(client: Client) -> None:
    answer = await client.post(COMPARE, json={"text": FEATURE})

    assert await answer.json() == {
        "changes": [
            {
                "kind": "feature",
                "key": "support",
                "action": "made",
                "lines": ["+ key: support", "+ name: Support"],
            }
        ],
        "invoices": [],
        "losses": [],
    }
    listed = await (await client.get("/api/v3/openmeter/features")).json()
    assert listed["data"] == []


async def test_what_is_wrong_with_a_file_names_line_and_key(client: Client) -> None:
    wrong = {"text": FEATURE.replace("name", "nmae"), "name": "a.yaml"}

    problem = await (await client.post(COMPARE, json=wrong)).json()

    assert (problem["status"], problem["code"]) == (400, "invalid_catalogue")
    assert problem["detail"] == (
        "a.yaml:2: features[0].name is required\na.yaml:2: features[0].nmae is not known"
    )
    assert [one["at"] for one in problem["invalid_parameters"]] == ["a.yaml:2", "a.yaml:2"]


async def test_only_an_administrator_compares(client_of: ClientOf) -> None:
    reader = await client_of(Scope.READ)

    assert (await reader.post(COMPARE, json={"text": ""})).status == 403
