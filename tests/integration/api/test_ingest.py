"""`POST /events`: what is taken, what is refused, and that nothing is half accepted."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tallyman import app
from tallyman.api.new_subjects import NewSubjects
from tallyman.api.shares import Shares
from tallyman.api.state import EVENTS, INTAKE, KEYS, NEW_SUBJECTS, SHARES
from tallyman.domain.access import Scope
from tallyman.errors import Unavailable
from tallyman.store.events import Accepted, Received
from tallyman.stream.group_commit import GroupCommit

from tests.integration.api.conftest import Client, ClientOf
from tests.rigs.plugin import until

EVENTS_PATH = "/api/v3/openmeter/events"
TOTAL = {
    "key": "total",
    "name": "Total",
    "aggregation": "sum",
    "event_type": "llm_token_usage",
    "value_property": "$.tokens",
}


def event(number: int = 1, **changed: Any) -> dict[str, Any]:
    """An event of the walkthrough's form."""
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "ai-text-api",
        "type": "llm_token_usage",
        "subject": "user-001",
        "time": "2026-04-13T10:30:00Z",
        "datacontenttype": "application/json",
        "data": {"tokens": 100, "model": "gpt-4o-mini"},
        **changed,
    }


async def total(client: Client) -> str:
    """The tokens of all the events above."""
    await client.post("/api/v3/openmeter/meters", json=TOTAL)
    answer = await client.post("/api/v3/openmeter/meters/total/query")
    rows = (await answer.json())["data"]
    return str(rows[0]["value"]) if rows else "0"


@pytest.mark.parametrize("prefix", ["/api/v3/openmeter", "/v3/openmeter", "/openmeter"])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("application/cloudevents+json", event(), id="one event"),
        pytest.param("application/cloudevents-batch+json", [event()], id="a batch"),
        pytest.param("application/json", event(), id="plain JSON, one"),
        pytest.param("application/json; charset=utf-8", [event()], id="plain JSON, several"),
    ],
)
async def test_an_event_is_taken_in_each_form_under_each_prefix(
    client: Client, prefix: str, content_type: str, body: Any
) -> None:
    answer = await client.post(
        f"{prefix}/events", data=json.dumps(body), headers={"Content-Type": content_type}
    )

    assert answer.status == 202
    assert await answer.read() == b""
    assert answer.headers["Tallyman-New"] == "1"
    assert await total(client) == "100"


async def test_an_event_sent_again_is_known_and_counts_once(client: Client) -> None:
    await client.post(EVENTS_PATH, json=event())

    again = await client.post(EVENTS_PATH, json=[event(), event(2)])

    assert (again.headers["Tallyman-New"], again.headers["Tallyman-Known"]) == ("1", "1")
    assert again.headers["Tallyman-Conflicts"] == "0"
    assert await total(client) == "200"


async def test_every_bad_event_of_a_batch_is_named_and_none_is_taken(client: Client) -> None:
    batch = [event(1), event(2, id=""), event(3), {**event(4), "subject": 5}]

    answer = await client.post(EVENTS_PATH, json=batch)

    assert answer.status == 400
    problem = await answer.json()
    assert problem["code"] == "invalid_event"
    assert [found["field"] for found in problem["invalid_parameters"]] == ["[1].id", "[3].subject"]
    assert await total(client) == "0"


async def test_a_missing_field_is_named_as_required(client: Client) -> None:
    without = event()
    del without["subject"]

    answer = await client.post(EVENTS_PATH, json=without)

    assert [
        (found["field"], found["rule"], found["source"])
        for found in (await answer.json())["invalid_parameters"]
    ] == [("subject", "required", "body")]


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", None])
async def test_another_content_type_is_refused_by_name(
    client: Client, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}

    answer = await client.post(
        EVENTS_PATH, data=b"{}", headers=headers, skip_auto_headers=["Content-Type"]
    )

    assert answer.status == 400
    problem = await answer.json()
    assert problem["invalid_parameters"][0]["field"] == "Content-Type"
    assert problem["invalid_parameters"][0]["source"] == "header"


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"7", b'{"id":', b"\xff", b"[" * 2000])
async def test_what_is_no_event_is_a_bad_request(client: Client, body: bytes) -> None:
    answer = await client.post(EVENTS_PATH, data=body, headers={"Content-Type": "application/json"})

    assert answer.status == 400
    assert answer.content_type == "application/problem+json"


async def test_an_empty_batch_is_taken(client: Client) -> None:
    answer = await client.post(EVENTS_PATH, json=[])

    assert (answer.status, answer.headers["Tallyman-New"]) == (202, "0")


async def test_a_body_beyond_the_limit_is_too_large(client: Client) -> None:
    answer = await client.post(EVENTS_PATH, json=event(data={"text": "x" * 70_000}))

    assert answer.status == 413
    assert (await answer.json())["code"] == "too_large"


async def test_a_compressed_body_counts_unpacked(client: Client) -> None:
    small = await client.post(EVENTS_PATH, json=event(), compress="gzip")
    bomb = await client.post(
        EVENTS_PATH,
        data=gzip.compress(json.dumps(event(data={"text": "x" * 50_000_000})).encode()),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert (small.status, bomb.status) == (202, 413)


@pytest.mark.parametrize(("encoding", "field"), [("gzip", "body"), ("x", "Content-Encoding")])
async def test_a_body_that_is_not_in_its_encoding_is_refused_by_name(
    client: Client, encoding: str, field: str
) -> None:
    answer = await client.post(
        EVENTS_PATH,
        data=json.dumps(event()).encode(),
        headers={"Content-Type": "application/json", "Content-Encoding": encoding},
    )

    assert answer.status == 400
    assert [one["field"] for one in (await answer.json())["invalid_parameters"]] == [field]


async def test_more_events_than_a_batch_may_have_are_too_large(client: Client) -> None:
    answer = await client.post(EVENTS_PATH, json=[event(number) for number in range(51)])

    assert answer.status == 413
    assert "51 events, and may have 50" in (await answer.json())["detail"]
    assert await total(client) == "0"


async def test_an_event_without_a_time_gets_the_servers(client: Client) -> None:
    untimed = event()
    del untimed["time"]

    first = await client.post(EVENTS_PATH, json=untimed)

    assert first.status == 202
    assert await total(client) == "100"


class FullIntake:
    """An intake that has no room, as a store that is down."""

    async def accept(self, batch: object) -> Any:
        raise Unavailable("more events come in than can be stored; send them later")


async def test_what_is_not_durable_is_not_accepted(settings: Any) -> None:
    application = app.build(settings)

    async def fill(application: web.Application) -> None:
        application[INTAKE] = FullIntake()

    application.on_startup.append(fill)
    server = TestServer(application)
    async with server:
        _, secret = await application[KEYS].create("default", "test", [Scope.INGEST])
        answer = await server_post(server, secret)

        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert (await answer.json())["code"] == "unavailable"
        assert application[EVENTS] is not None


async def server_post(server: TestServer, secret: str, body: object = None) -> Any:
    """Send one event, or what is given."""
    from aiohttp.test_utils import TestClient

    client: Client = TestClient(server, headers={"Authorization": f"Bearer {secret}"})
    try:
        answer = await client.post(EVENTS_PATH, json=body or event())
        await answer.read()
        return answer
    finally:
        await client.session.close()


class Gate:
    """The store behind the real intake, which goes on when it is told to."""

    def __init__(self, application: web.Application) -> None:
        intake = application[INTAKE]
        assert isinstance(intake, GroupCommit)
        self._store = intake._store
        intake._store = self
        self._shares = application._state[SHARES] = Shares(events=2)
        self.go_on = asyncio.Event()

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        await self.go_on.wait()
        return await self._store.accept(batch)

    async def has_under_way(self, events: int) -> None:
        await until(lambda: self._shares._under_way.total() == events)


async def test_a_flood_of_one_key_is_told_to_wait_and_does_not_starve_another(
    server: TestServer,
) -> None:
    gate = Gate(server.app)
    keys = [await server.app[KEYS].create("default", "k", [Scope.INGEST]) for _ in range(2)]
    flood, other = (secret for _, secret in keys)
    held = [asyncio.create_task(server_post(server, flood, event(number))) for number in (1, 2)]
    await gate.has_under_way(2)
    refused = [await server_post(server, flood, event(number)) for number in (3, 4, 5)]
    served = asyncio.create_task(server_post(server, other, event(6)))
    await gate.has_under_way(3)
    gate.go_on.set()
    answers = [await one for one in (*held, served)]
    again = await server_post(server, flood, event(3))

    assert {(one.status, one.headers["Retry-After"]) for one in refused} == {(429, "1")}
    assert [answer.status for answer in (*answers, again)] == [202] * 4
    assert await server.app[EVENTS].count("default") == 4


async def test_what_is_beyond_a_keys_share_is_refused_before_the_store_is_asked_for_its_subjects(
    server: TestServer,
) -> None:
    asked: list[str] = []

    async def stored(namespace: str, subjects: Sequence[str]) -> set[str]:
        asked.extend(subjects)
        return await server.app[EVENTS].stored_subjects(namespace, subjects)

    gate = Gate(server.app)
    server.app._state[NEW_SUBJECTS] = NewSubjects(1, stored, Seconds())
    _, secret = await server.app[KEYS].create("default", "k", [Scope.INGEST])
    held = asyncio.create_task(server_post(server, secret, of("a", "b")))
    await gate.has_under_way(2)
    refused = await server_post(server, secret, of("c"))
    gate.go_on.set()
    taken = await held
    waits = await server_post(server, secret, of("c"))

    assert [answer.status for answer in (refused, taken, waits)] == [429, 202, 429]
    assert [(await one.json())["code"] for one in (refused, waits)] == [
        "too_many_requests", "too_many_subjects",
    ]  # fmt: skip
    assert asked == ["c"]  # for what was sent when there was room


class Seconds:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def of(*subjects: str) -> list[dict[str, Any]]:
    """An event of each subject."""
    return [event(id=f"of-{subject}", subject=subject) for subject in subjects]


async def test_new_subjects_wait_for_their_turn_and_known_ones_and_other_keys_do_not(
    server: TestServer, client_of: ClientOf
) -> None:
    seconds = Seconds()
    limit = NewSubjects(3, server.app[EVENTS].stored_subjects, seconds)
    server.app._state[NEW_SUBJECTS] = limit
    client, other = await client_of(Scope.ADMIN), await client_of(Scope.INGEST)
    first = await client.post(EVENTS_PATH, json=of("a", "b", "c", "d", "e"))
    refused = await client.post(EVENTS_PATH, json=of("a", "f"))
    known = await client.post(EVENTS_PATH, json=of("a", "e"))
    others = await other.post(EVENTS_PATH, json=of("g"))
    seconds.now = 59.0
    still = await client.post(EVENTS_PATH, json=of("h"))
    seconds.now = 60.0
    again = await client.post(EVENTS_PATH, json=of("a", "f"))
    page = await (await client.get("/metrics")).text()

    answers = [first, refused, known, others, still, again]
    assert [answer.status for answer in answers] == [202, 429, 202, 202, 429, 202]
    assert (refused.headers["Retry-After"], still.headers["Retry-After"]) == ("60", "1")
    assert (await refused.json())["code"] == "too_many_subjects"
    assert 'tallyman_too_many_total{code="too_many_subjects"}' in page
    assert await server.app[EVENTS].count("default") == 7


async def test_a_subject_that_is_stored_is_not_new_to_a_server_that_has_forgotten_it(
    server: TestServer, client: Client
) -> None:
    stored = [f"stored-{number}" for number in range(40)]
    await client.post(EVENTS_PATH, json=of(*stored))
    server.app._state[NEW_SUBJECTS] = NewSubjects(3, server.app[EVENTS].stored_subjects, Seconds())
    bodies = [of(*stored[:5]), of(*stored), of(*stored, "new"), of("new")]

    answers = [await client.post(EVENTS_PATH, json=body) for body in bodies]
    assert [answer.status for answer in answers] == [202, 202, 429, 429]


async def test_without_a_limit_any_number_of_subjects_is_taken(
    server: TestServer, client: Client
) -> None:
    server.app._state[NEW_SUBJECTS] = NewSubjects(0, server.app[EVENTS].stored_subjects)

    answers = [await client.post(EVENTS_PATH, json=of(f"s-{n}", f"t-{n}")) for n in range(5)]
    assert {answer.status for answer in answers} == {202}


async def test_an_ingest_key_is_enough_to_send(client_of: ClientOf) -> None:
    client = await client_of(Scope.INGEST)

    assert (await client.post(EVENTS_PATH, json=event())).status == 202
