"""The OpenAPI document, its page, and the API held to it by schemathesis."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from tallyman.api.routes import ROUTES

from tests.integration.api.conftest import Client
from tests.integration.api.serving import serving

SCHEMATHESIS = Path(sys.executable).with_name("st")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


async def document(client: Client) -> dict[str, Any]:
    """The document as it is served."""
    answer = await client.get("/openapi.json")
    found: dict[str, Any] = await answer.json()
    return found


async def test_every_route_of_the_router_is_in_the_document(
    client: Client, server: TestServer
) -> None:
    paths = (await document(client))["paths"]

    documented = {(method.upper(), path) for path, item in paths.items() for method in item}
    served = {
        (route.method, route.resource.canonical)
        for route in server.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    aliases = {(route.method, path) for route in ROUTES for path in route.paths[1:]}
    assert documented == served - aliases


async def test_every_reference_of_the_document_leads_somewhere(client: Client) -> None:
    found = await document(client)

    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found))):
        assert reference in found["components"]["schemas"]


async def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    answer = await client.get("/docs")
    page = await answer.text()

    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "//" not in page
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        file = await client.get(path)
        assert (file.status, len(await file.read()) > 50) == (200, True), path
    assert (await client.get("/docs/..%2Froutes.py")).status == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_head_is_get_without_a_body(client: Client, path: str) -> None:
    answer = await client.head(path)

    assert (answer.status, await answer.read()) == (200, b"")


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Every check on every operation, with data that fits the document and data that does not."""
    with serving(tmp_path, TALLYMAN_LOG_LEVEL="error") as server:
        key = server.hear(r"(tm_\S+)")[1]
        found = subprocess.run(
            [
                SCHEMATHESIS, "--config-file", CONFIGURATION,
                "run", f"http://127.0.0.1:{server.port}/openapi.json",
                "--header", f"Authorization: Bearer {key}",
                "--checks", "all", "--phases", "coverage,fuzzing,stateful",
                "--max-examples", "4", "--generation-deterministic", "--continue-on-failure",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )  # fmt: skip
        status, said = server.stop()

    assert found.returncode == 0, found.stdout
    assert (status, "ERROR" in said) == (0, False), said
