"""No prompt, answer, key, query string or unnamed header gets out of a log entry.

A canary is put wherever Kong may log what a client or a provider sent; then everything that Tallyman
wrote, logged or answers is searched for it.
"""

import copy
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tallyman import connections
from tallyman.config import Settings
from tallyman.demo import processes
from tallyman.demo.kong_driver import KongDriver
from tallyman.store.clickhouse import ClickHouse
from tallyman_kong.usage import configuration, read

from tests.contract.tables import recorded_cases
from tests.rigs.plugin import until

CANARY = "cAnArY7f3e"
SECRET = "sEcReT4c1d"  # the plugin's password of Kafka
ENTRIES = [case.entry for case in recorded_cases()]

# The members that docs/counting.md names: what they hold is what an event is for.
NAMED = {
    ("request", "id"),
    ("request", "headers", "x-tallyman-task"),
    ("request", "headers", "x-tallyman-feature"),
    ("consumer", "id"),
    ("consumer", "username"),
    ("consumer", "custom_id"),
    ("authenticated_entity", "id"),
    ("service", "name"),
    ("route", "name"),
    ("workspace_name",),
    ("response", "headers", "x-kong-llm-model"),
    ("response", "headers", "content-type"),
}
NAMED_IN_META = {"provider_name", "request_model", "response_model"}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every string in a log entry that no event may hold."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
    elif isinstance(value, str) and path not in NAMED:
        in_meta = len(path) == 4 and path[0] == "ai" and path[2] == "meta"
        if not (in_meta and path[3] in NAMED_IN_META):
            yield path


def with_canaries(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with a canary in every string that is not a named field, and where more may be."""
    changed = copy.deepcopy(entry)
    for path in leaves(entry):
        put(changed, path, f"{CANARY} {path}")
    if "upstream_status" in entry:
        changed["upstream_status"] = entry["upstream_status"]
    changed["request"]["headers"] |= dict.fromkeys(
        ("authorization", "apikey", "cookie", "x-api-key", CANARY), CANARY
    )
    changed["request"]["querystring"] = {"apikey": CANARY, CANARY: [CANARY]}
    changed[CANARY] = {CANARY: CANARY}
    for namespace in changed.get("ai", {}).values():
        namespace["payload"] = {"request": CANARY, "response": CANARY}
    return changed


def put(entry: Any, path: tuple[Any, ...], value: str) -> None:
    for step in path[:-1]:
        entry = entry[step]
    entry[path[-1]] = value


def test_no_string_of_an_entry_but_the_named_fields_reaches_an_event() -> None:
    """Each string of each recorded entry in turn, since one may change how the others are read."""
    escaped = []
    for entry in ENTRIES:
        for path in leaves(entry):
            changed = copy.deepcopy(entry)
            put(changed, path, CANARY)
            if CANARY in json.dumps(read(changed, configuration(None)).events):
                escaped.append(path)

    assert sum(1 for entry in ENTRIES for _ in leaves(entry)) > 1000
    assert escaped == []


async def test_no_canary_is_found_in_the_spool_the_store_a_log_an_answer_or_a_page(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    key = processes.create_key(data_dir, "test")
    with processes.collector(data_dir, tmp_path / "serve.log") as address:
        with (
            processes.plugin_server(tmp_path / "plugin.log") as socket,
            KongDriver(socket) as kong,
        ):
            endpoint = f"{address}/api/v3/openmeter/events"
            instance = kong.start_instance({"ingest_endpoint": endpoint, "api_token": key})
            kafka = {
                "brokers": ["127.0.0.1:9"],
                "topic": "t",
                "sasl_username": "u",
                "sasl_password": SECRET,
            }
            broker = kong.start_instance({"sink": "kafka", "timeout": 1000, "kafka": kafka})
            nowhere = kong.start_instance({"ingest_endpoint": "http://127.0.0.1:9/events"})
            for entry in ENTRIES:
                kong.log(instance, with_canaries(entry))
                kong.log(nowhere, with_canaries(entry))
                kong.log(broker, with_canaries(entry))
            kong.log(instance, f'{{"{CANARY}": ')
            events = 3 * 2 * len(ENTRIES)  # three sinks, two events a call
            await until(lambda: numbered_in(socket.parent / "spool.db") >= events)
            spool = contents(socket.parent)
        answers = [
            get(address, path, key)
            for path in ("/api/v3/openmeter/events?page[size]=100", "/metrics")
        ]
    stored = contents(tmp_path)
    clickhouse = connections.open_clickhouse(Settings(data_dir=data_dir))
    tables = await everything_in(clickhouse)
    await clickhouse.close()

    assert b"alice" in b"".join(spool)
    assert b"alice" in answers[0]
    assert "alice" in tables["events"]
    assert "seen" in tables
    written = [*spool, *answers, *stored, *(rows.encode() for rows in tables.values())]
    for kept_out in (CANARY, key, SECRET):
        assert not [content for content in written if kept_out.encode() in content]


async def everything_in(clickhouse: ClickHouse) -> dict[str, str]:
    """What is in every table, as text."""
    names = await clickhouse.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase()"
    )
    return {
        name: repr(await clickhouse.rows(f"SELECT toString(tuple(*)) FROM `{name}`"))
        for (name,) in names
    }


def contents(folder: Path) -> list[bytes]:
    """Every file below."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def numbered_in(spool: Path) -> int:
    """How many events the spool has taken, sent ones too."""
    with closing(sqlite3.connect(spool)) as connection:
        row = connection.execute(
            "SELECT sum(value) FROM counter WHERE name = 'sequence'"
        ).fetchone()
    return int(row[0] or 0)


def get(address: str, path: str, key: str) -> bytes:
    request = urllib.request.Request(address + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())
