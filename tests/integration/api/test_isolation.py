"""A key of one namespace sees nothing of another one's, on any route, and changes nothing there.

Whatever it names of theirs is answered as what nobody has; what it lists, and what a metric or a page
says, has none of it. Which routes there are comes from the route table, so a new one is asked too.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any, Final

import pytest
from aiohttp.test_utils import TestServer
from sqlalchemy import or_, select
from tallyman.api.route import Route
from tallyman.api.routes import ROUTES
from tallyman.api.state import BOOKS, DATABASE, EVENTS, KEYS
from tallyman.domain.access import Scope
from tallyman.domain.price import FlatPrice
from tallyman.domain.price_list import read_price_list
from tallyman.store.database import Database
from tallyman.store.price_changes import PriceChanges
from tallyman.store.tables import metadata

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.integration.api.invoicing import V1
from tests.integration.api.selling import created
from tests.integration.api.test_billing_profiles import profile
from tests.integration.api.test_credits import asked as gift
from tests.integration.api.test_llm_prices import OVERRIDE
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

API: Final = "/api/v3/openmeter"
THEIRS: Final = "theirs"
CANARY: Final = "canary"
NOBODYS_ID: Final = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOBODYS_KEY: Final = "nobodys"
_ULID: Final = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)?")
_TRACE: Final = re.compile(r"kong:trace:[0-9a-f]+")


def bodies(id_: str, key: str) -> dict[str, Any]:
    """Of each route a body that it takes, with the id or key in every place for one."""
    customer, plan = {"key": key}, {"id": id_}
    card = {
        "key": "fee", "name": "Fee", "billing_cadence": "P1M", "feature": {"id": id_},
        "price": {"type": "unit", "amount": "1"},
    }  # fmt: skip
    phases = [{"key": "only", "name": "Only", "rate_cards": [card]}]
    which = {"source": "kong", "id": key, "reason": "r"}
    invoice = {
        "type": "standard", "description": "Order 7", "supplier": {"name": "We"},
        "customer": {"id": id_, "name": "Acme"}, "workflow": {"workflow": {}},
    }  # fmt: skip
    return {
        "update-meter": {"name": "N"},
        "query-meter": {"filters": {"dimensions": {"customer_id": {"eq": id_}}}},
        "create-feature": {"key": "f", "name": "F", "meter": {"id": id_}},
        "update-feature": {"unit_cost": {"type": "manual", "amount": "1"}},
        "create-plan": {
            "key": "p", "name": "P", "currency": "USD", "billing_cadence": "P1M", "phases": phases,
        },
        "update-plan": {"name": "P", "phases": phases},
        "upsert-customer": {"name": "C", "usage_attribution": {"subject_keys": [f"{key}-app"]}},
        "create-customer": {"key": key, "name": "C"},
        "update-customer-billing": {"billing_profile": {"id": id_}},
        "update-customer-billing-app-data": {"stripe": {"labels": {"team": "x"}}},
        "create-subscription": {"customer": customer, "plan": plan},
        "change-subscription": {"customer": customer, "plan": plan, "timing": "immediate"},
        "cancel-subscription": {"timing": "immediate"},
        "query-entitlement-access": {"customer": {"keys": [key]}},
        "reset-entitlement": {},
        "update-invoice": invoice,
        "report-invoice-payment": {"trigger": "paid"},
        "update-billing-profile": profile(),
        "run-billing": {"customers": [id_], "dry_run": True},
        "compare-catalogue": {"text": f"customers: [{{key: {key}, plan: {key}}}]", "name": "c"},
        "void-metering-event": which,
        "amend-metering-event": {**which, "data": {"tokens": 1}},
        "create-credit-grant": gift(),
        "create-credit-adjustment": {"name": "G", "currency": "USD", "amount": "5"},
        "update-credit-grant-external-settlement": {"status": "settled"},
        "advance-test-clock": {"frozen_time": "2028-02-01T00:00:00Z"},
    }  # fmt: skip


@pytest.fixture
async def theirs(server: TestServer, clock: Clock, client_of: ClientOf) -> Shop:
    """A shop of another namespace, which has some of everything, each with the canary in its name."""
    clock.now = DECEMBER + COLLECTED
    client = await client_of(Scope.ADMIN, namespace=THEIRS)
    shop = Shop(server.app[DATABASE], server.app[EVENTS]._clickhouse, THEIRS)
    acme = f"{CANARY}_acme"
    fee = await shop.card(f"{CANARY}_fee", FlatPrice(D(10)))
    await shop.plan(await shop.card(f"{CANARY}_tokens"), fee, key=f"{CANARY}_plan")
    await shop.customer(acme)
    await shop.subscribe(acme, f"{CANARY}_plan")
    await shop.use(15_000, NOVEMBER + timedelta(days=1), acme, model=f"{CANARY}-model")
    await shop.bill(clock.now)
    await created(client, "meters", {
        "key": f"{CANARY}_meter", "name": CANARY, "aggregation": "count", "event_type": "t",
    })  # fmt: skip
    await created(client, "profiles", profile(name=CANARY))
    await created(client, "llm-cost/overrides", OVERRIDE | {"model_id": f"{CANARY}-model"})
    await created(client, f"customers/{acme}/credits/grants", gift(name=CANARY))
    listed = {"litellm_provider": "openai", "input_cost_per_token": 0.000004}
    offer = read_price_list(json.dumps({"gpt-4o": listed}))
    await PriceChanges(shop.books.prices).put_in_force(THEIRS, offer, datetime.now(UTC))
    await server.app[BOOKS].sandboxes.open(f"{THEIRS}-sandbox")
    await server.app[BOOKS].sandboxes.create_clock(f"{THEIRS}-sandbox", CANARY, DECEMBER)
    return shop


async def kept(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of theirs, by table."""
    found = {}
    async with database.reading() as connection:
        for table in metadata.sorted_tables:
            if "namespace" not in table.c:
                continue
            mine = or_(*(table.c.namespace == one for one in (THEIRS, f"{THEIRS}-sandbox")))
            rows = await connection.execute(select(table).where(mine))
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


async def names(database: Database) -> dict[str, list[str]]:
    """Ids and keys of theirs, by table."""
    found: dict[str, list[str]] = {}
    async with database.reading() as connection:
        for table in metadata.sorted_tables:
            if "namespace" not in table.c or "id" not in table.c:
                continue
            columns = [table.c[name] for name in ("id", "key") if name in table.c]
            mine = table.c.namespace.startswith(THEIRS)
            rows = (await connection.execute(select(*columns).where(mine))).all()
            found[table.name] = [
                str(value)
                for row in rows
                for value in row
                if value is not None and (_ULID.fullmatch(str(value)) or CANARY in str(value))
            ]  # not the keys of what every namespace has
    return found


def candidates(route: Route, found: dict[str, list[str]]) -> list[str]:
    """What of theirs may stand in the route's places: of the resource, or else anything."""
    wanted: list[str] = []
    for place in re.findall(r"\{(\w+)\}", route.path):
        noun = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", place.removesuffix("Id").removesuffix("Key"))
        tables = [name for name in found if name.endswith(f"{noun.lower()}s") and found[name]]
        wanted += [one for name in tables or found for one in found[name][-3:]]
    return list(dict.fromkeys(wanted))


async def answer(client: Client, route: Route, name: str, id_: str, key: str) -> tuple[int, str]:
    """What the client is answered, without what differs from one time to the next."""
    path = route.paths[0]
    for place, choices in route.choices.items():
        path = path.replace(f"{{{place}}}", str(choices[0]))
    path = re.sub(r"\{\w+\}", name, path)
    body = bodies(id_, key).get(route.name, {} if route.body else None)
    got = await client.request(route.method, path, json=body)
    text = (await got.read()).decode("latin-1")
    for own, neutral in ((name, "NAME"), (id_, "ID"), (key, "KEY")):
        text = text.replace(own, neutral)
    text = _TRACE.sub("TRACE", _MOMENT.sub("T", _ULID.sub("ULID", text)))
    return got.status, text


async def test_what_is_theirs_is_answered_as_what_nobody_has(
    theirs: Shop, client_of: ClientOf, server: TestServer
) -> None:
    before, found = await kept(theirs.database), await names(theirs.database)
    acme = next(one for one in found["customers"] if CANARY in one)

    asked = set()
    for route in ROUTES:
        if route.scope is None or ("{" not in route.path and not bodies("", "").get(route.name)):
            continue
        client = await client_of(Scope.ADMIN, namespace=f"ours-{route.name}")
        for name in candidates(route, found) or [acme]:
            is_id = _ULID.fullmatch(name) is not None
            id_ = name if is_id else NOBODYS_ID
            theirs_is = await answer(client, route, name, id_, acme)
            nobodys = NOBODYS_ID if is_id else NOBODYS_KEY
            nobodys_is = await answer(client, route, nobodys, NOBODYS_ID, NOBODYS_KEY)

            assert theirs_is == nobodys_is, (route.name, name)
            assert CANARY not in theirs_is[1], (route.name, name)
            asked.add(route.name)

    assert await kept(theirs.database) == before
    assert await theirs.events.count(THEIRS) == 1
    assert set(bodies("", "")) <= asked


async def test_lists_pages_and_metrics_have_nothing_of_theirs(
    theirs: Shop, client_of: ClientOf, clock: Clock
) -> None:
    client = await client_of(Scope.ADMIN, namespace="ours")
    found = {one for some in (await names(theirs.database)).values() for one in some}

    for route in ROUTES:
        if route.method != "GET" or "{" in route.path:
            continue
        for query in ("", *queries(route, f"{CANARY}_acme")):
            got = await client.get(f"{route.paths[0]}{query}")
            text = (await got.read()).decode("latin-1")
            if got.status != 200:
                continue
            shown = text.replace(f"{CANARY}_acme", "") if query else text

            assert CANARY not in shown, (route.name, query)
            assert not found & set(_ULID.findall(text)), (route.name, query)


def queries(route: Route, name: str) -> Iterator[str]:
    """A query by each of the route's filters."""
    for described in route.parameters.describe() if route.parameters is not None else ():
        if str(described["name"]).startswith("filter["):
            yield f"?{described['name']}={name}"
        elif described["name"] == "subject":
            yield f"?subject={name}"


async def test_their_key_opens_their_namespace_alone(
    theirs: Shop, client_of: ClientOf, server: TestServer
) -> None:
    reader = await client_of(Scope.READ, namespace=THEIRS)
    keys = await server.app[KEYS].list()

    listed = await (await reader.get(f"{V1.removesuffix('/billing')}/status")).json()

    assert listed["keys"] == sum(one.namespace == THEIRS for one in keys)
    assert listed["events"] == 1
