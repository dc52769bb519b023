"""Who may ask what."""

import asyncio
import base64
import os
import re
import stat
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tallyman import app, data_directory
from tallyman.api.route import Route
from tallyman.api.routes import ROUTES
from tallyman.api.state import KEYS
from tallyman.config import Settings
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf

OPEN = {
    "/healthz": 200,
    "/readyz": 200,
    "/i/{link}": 404,
    "/i/{link}/pdf": 404,
    "/api/v1/stripe/webhook": 400,
}  # a link is its own secret, and Stripe signs what it sends

REACHED = {
    Scope.INGEST: {Scope.INGEST},
    Scope.READ: {Scope.READ},
    Scope.BILLING: {Scope.READ, Scope.BILLING},
    Scope.ADMIN: set(Scope),
}
NEEDED = {
    Scope.INGEST: "this needs an API key with the role ingest or admin",
    Scope.READ: "this needs an API key with the role read or billing or admin",
    Scope.BILLING: "this needs an API key with the role billing or admin",
    Scope.ADMIN: "this needs an API key with the role admin",
}
QUESTIONS = {"query", "simulate"}  # they are sent a body, and change nothing


def filled(route: Route, path: str) -> str:
    """The path with something in its places."""
    for name, choices in route.choices.items():
        path = path.replace(f"{{{name}}}", str(choices[0]))
    return re.sub(r"\{\w+\}", "nothing", path)


async def test_no_path_but_health_links_and_what_is_signed_is_open(client_of: ClientOf) -> None:
    client = await client_of()

    for route in ROUTES:
        for path in route.paths:
            answer = await client.request(route.method, filled(route, path))

            assert answer.status == OPEN.get(route.path, 401), path
    assert (await client.get("/nothing/here")).status == 401


async def test_a_refusal_names_the_way_to_ask(client_of: ClientOf) -> None:
    client = await client_of()

    answer = await client.get("/api/v3/openmeter/meters", headers={"Authorization": "Bearer tm_x"})

    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tallyman"'
    assert answer.content_type == "application/problem+json"
    problem = await answer.json()
    assert problem.pop("instance").startswith("kong:trace:")
    assert problem == {
        "status": 401,
        "title": "Unauthorized",
        "type": "https://kongapi.info/konnect/unauthenticated",
        "detail": "the API key is not known, or was revoked",
        "code": "unauthenticated",
    }


@pytest.mark.parametrize("scope", Scope)
async def test_a_key_reaches_what_its_role_does_and_nothing_else(
    client_of: ClientOf, scope: Scope
) -> None:
    client = await client_of(scope)

    for route in ROUTES:
        for path in route.paths:
            answer = await client.request(route.method, filled(route, path))
            reached = route.scope is None or route.scope in REACHED[scope]

            assert (answer.status != 403) == reached, path
            if route.scope is not None and not reached:
                assert f'scope="{route.scope}"' in answer.headers["WWW-Authenticate"]
                problem = await answer.json()
                assert (problem["code"], problem["detail"]) == ("forbidden", NEEDED[route.scope])


def test_only_questions_are_reached_by_those_who_may_but_read() -> None:
    asked = {
        route.path.rpartition("/")[2]
        for route in ROUTES
        if route.method != "GET" and route.scope is Scope.READ
    }

    assert asked <= QUESTIONS


async def test_a_key_may_have_several_roles(client_of: ClientOf) -> None:
    client = await client_of(Scope.INGEST, Scope.READ)

    assert (await client.post("/api/v3/openmeter/events")).status == 400
    assert (await client.get("/api/v3/openmeter/meters")).status == 200
    assert (await client.post("/api/v3/openmeter/customers")).status == 403


async def test_a_revoked_key_is_refused_at_once(client: Client, server: TestServer) -> None:
    keys = server.app[KEYS]
    key, secret = await keys.create("default", "soon gone", [Scope.READ])
    headers = {"Authorization": f"Bearer {secret}"}
    before = await client.get("/api/v3/openmeter/meters", headers=headers)

    await keys.revoke(key.id)
    after = await client.get("/api/v3/openmeter/meters", headers=headers)

    assert (before.status, after.status) == (200, 401)


async def test_a_browser_may_send_the_key_as_a_password_for_pages_only(
    client_of: ClientOf, server: TestServer
) -> None:
    _, secret = await server.app[KEYS].create("default", "browser", [Scope.READ])
    client = await client_of()
    credentials = base64.b64encode(f"anyone:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"}

    asked = await client.get("/docs")
    page = await client.get("/docs", headers=headers)
    meters = await client.get("/api/v3/openmeter/meters", headers=headers)

    assert any(value.startswith("Basic ") for value in asked.headers.getall("WWW-Authenticate"))
    assert page.status == 200
    assert meters.status == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic !!!", "Bearer é", "tm_x", "Bearer a b", "Basic /w=="]
)
async def test_a_header_that_is_no_key_is_refused(client_of: ClientOf, header: str) -> None:
    client = await client_of()

    for path in ("/docs", "/api/v3/openmeter/meters"):
        assert (await client.get(path, headers={"Authorization": header})).status == 401


async def test_namespaces_do_not_see_each_other(client_of: ClientOf) -> None:
    ours = await client_of(Scope.ADMIN, namespace="ours")
    theirs = await client_of(Scope.ADMIN, namespace="theirs")
    meter = {"key": "m", "name": "M", "aggregation": "count", "event_type": "t"}
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "x"}

    made = await ours.post("/api/v3/openmeter/meters", json=meter)
    taken = await ours.post("/api/v3/openmeter/events", json=event)
    same = await theirs.post("/api/v3/openmeter/meters", json=meter)

    assert (made.status, taken.status, same.status) == (201, 202, 201)
    meter_id = (await made.json())["id"]
    assert (await theirs.get(f"/api/v3/openmeter/meters/{meter_id}")).status == 404
    assert [await _seen(client) for client in (ours, theirs)] == [("1", ["1"]), ("0", [])]


async def _seen(client: Client) -> tuple[str, list[str]]:
    """What the meter counts, and the ids of the events."""
    counted = await (await client.post("/api/v3/openmeter/meters/m/query")).json()
    listed = await (await client.get("/api/v3/openmeter/events")).json()
    values = [row["value"] for row in counted["data"]]
    return "".join(values) or "0", [item["event"]["id"] for item in listed["data"]]


async def test_a_command_is_named_over_the_local_socket_and_nowhere_else(
    tmp_path: Path, client: Client, server: TestServer
) -> None:
    body, headers = {"key": "c", "name": "C"}, {"Tallyman-Actor": "command:apply:root"}
    path, log = "/api/v3/openmeter/customers", "/api/v1/audit-log?filter[resource_type]=customer"
    await client.post(path, json=body, headers=headers)
    assert server.runner is not None
    with data_directory.listening(tmp_path) as listener:
        site = web.SockSite(server.runner, listener)
        await site.start()
        connector = aiohttp.UnixConnector(str(data_directory.socket_path(tmp_path)))
        async with aiohttp.ClientSession(connector=connector) as session:
            local = {**body, "key": "d"}
            made = await session.post(f"http://tallyman{path}", json=local, headers=headers)
            assert made.status == 201
            lines = (await (await session.get(f"http://tallyman{log}")).json())["data"]
        await site.stop()

    assert [line["actor"].get("name") for line in lines] == [None, "test"]
    assert lines[0]["actor"]["id"] == "command:apply:root"


async def test_the_local_socket_asks_without_a_key_and_is_the_owners_alone(
    tmp_path: Path,
) -> None:
    runner = web.AppRunner(app.build(Settings(data_dir=tmp_path)))
    with data_directory.listening(tmp_path) as listener:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        path = data_directory.socket_path(tmp_path)
        mode = stat.S_IMODE((await asyncio.to_thread(os.stat, path)).st_mode)
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            answer = await session.get("http://tallyman/api/v3/openmeter/meters")

            assert answer.status == 200
        await runner.cleanup()

    assert mode == 0o600
    assert not await asyncio.to_thread(path.exists)
