"""Owns two namespaces side by side: before one is asked by its owner, it is asked by strangers.

A stranger who names what the owner has is answered to the letter as one who names what nobody has, and
changes nothing there; then the owner is answered with success, so the names and the body were right.
Which routes are asked is test_isolation.py's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.test_utils import TestServer
from sqlalchemy import or_, select
from tallyman.api.routes import ROUTES
from tallyman.api.state import BOOKS
from tallyman.domain.access import Scope
from tallyman.store.tables import metadata

from tests.integration.api.conftest import Client, ClientOf
from tests.rigs.shop import Shop
from tests.rigs.stripe import FakeStripe

THEIRS: Final = "theirs"
SANDBOX: Final = "theirs-sandbox"
CANARY: Final = "canary"
ACME: Final = f"{CANARY}_acme"
NOBODYS_ID: Final = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOBODYS_KEY: Final = "nobodys"
# Stripe is one namespace's, and a stranger is told so first; that whose Stripe it is reaches no other
# namespace's customers is a test of its own.
OF_STRIPES_NAMESPACE: Final = {
    "create-customer-stripe-checkout-session",
    "create-customer-stripe-portal-session",
    "put-credit-top-up",
}
ULID: Final = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
_NAME: Final = re.compile(rf"\b{CANARY}\w*|\b{NOBODYS_KEY}\b")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)?")
_OURS: Final = re.compile(r"\bours-\d+|\btm_[\w-]+")
_TRACE: Final = re.compile(r"kong:trace:[0-9a-f]+")

Rows = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Answer:
    """What a stranger was answered, without the names that it asked for."""

    status: int
    text: str
    counted: Mapping[str, str]

    def alike(self) -> tuple[int, str, Mapping[str, str]]:
        """Without what differs from one time, and one stranger, to the next."""
        text = _OURS.sub("OURS", _TRACE.sub("TRACE", _MOMENT.sub("T", self.text)))
        return self.status, ULID.sub("ULID", text), self.counted


class Neighbours:
    """The owner's requests, each made by strangers before."""

    def __init__(
        self, server: TestServer, client_of: ClientOf, shop: Shop, stripe: FakeStripe
    ) -> None:
        self.shop = shop
        self.told: set[str] = set()
        self._server = server
        self._client_of = client_of
        self._stripe = stripe
        self._owners: dict[str, Client] = {}
        self._readers: dict[str, Client] = {}
        self._strangers = 0
        self._kept: Rows = {}

    async def tell(
        self, name: str, path: str, body: Any = None, *, at: str = THEIRS
    ) -> dict[str, Any]:
        """Ask a route of the owner's namespace `at`; the answer."""
        route = next(route for route in ROUTES if route.name == name)
        assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.paths[0]), path.split("?")[0]), name
        is_question = route.method == "GET" or route.scope is Scope.READ
        if not is_question:
            self._kept = await self.kept()

        theirs_is = await self._as_a_stranger(at, is_question, route.method, path, body)

        assert CANARY not in theirs_is.text, name
        assert not ids(self._kept) & set(ULID.findall(theirs_is.text)), name
        if "{" in route.path:
            assert theirs_is.status == (409 if name in OF_STRIPES_NAMESPACE else 404), name
        nobodys = _nobodys(path), json.loads(_nobodys(json.dumps(body)))
        if nobodys != (path, body):
            nobodys_is = await self._as_a_stranger(at, is_question, route.method, *nobodys)
            assert theirs_is.alike() == nobodys_is.alike(), name
        assert is_question or await self.kept() == self._kept, name
        answer = await (await self._owner(at)).request(route.method, path, json=body)
        text = (await answer.read()).decode("latin-1")
        assert answer.status == route.answered.status, (name, text)
        self.told.add(name)
        found: dict[str, Any] = (
            json.loads(text) if answer.content_type == "application/json" else {"text": text}
        )
        return found

    async def kept(self) -> Rows:
        """Every row of theirs, by table, with what Stripe has."""
        found: Rows = {"stripe": sorted((name,) for name in self._stripe.customers)}
        async with self.shop.database.reading() as connection:
            for table in metadata.sorted_tables:
                if "namespace" in table.c:
                    mine = or_(*(table.c.namespace == one for one in (THEIRS, SANDBOX)))
                    rows = await connection.execute(select(table).where(mine))
                    found[table.name] = sorted((tuple(row) for row in rows), key=repr)
        events = "SELECT * FROM events WHERE startsWith(namespace, {theirs:String}) ORDER BY ALL"
        found["events"] = list(await self.shop.clickhouse.rows(events, {"theirs": THEIRS}))
        return found

    async def _owner(self, namespace: str) -> Client:
        if namespace not in self._owners:
            self._owners[namespace] = await self._client_of(Scope.ADMIN, namespace=namespace)
        return self._owners[namespace]

    async def stranger(self, at: str = THEIRS) -> Client:
        """Somebody who may do everything, in a namespace of the same kind that is as good as new."""
        self._strangers += 1
        namespace = f"ours-{self._strangers}"
        if at == SANDBOX:
            await self._server.app[BOOKS].sandboxes.open(namespace)
        return await self._client_of(Scope.ADMIN, namespace=namespace)

    async def _as_a_stranger(
        self, at: str, is_question: bool, method: str, path: str, body: Any
    ) -> Answer:
        """What somebody is told; who only asks does not need a namespace that is new each time."""
        client = self._readers.get(at) if is_question else None
        if client is None:
            client = await self.stranger(at)
        if is_question:
            self._readers[at] = client
        answer = await client.request(method, path, json=body)
        text = (await answer.read()).decode("latin-1")
        asked = f"{path} {json.dumps(body)}"
        for own in sorted({*ULID.findall(asked), *_NAME.findall(asked)}, key=len, reverse=True):
            text = text.replace(own, "ASKED")
        counted = {name: v for name, v in answer.headers.items() if name.startswith("Tallyman-")}
        return Answer(answer.status, text, counted)


def ids(rows: Rows) -> set[str]:
    """Every id in the rows."""
    return set(ULID.findall(repr(rows)))


def _nobodys(text: str) -> str:
    """The same, with names that nobody has."""
    return ULID.sub(NOBODYS_ID, re.sub(rf"\b{CANARY}\w*", NOBODYS_KEY, text))
