"""The audit log, and transactions over several repositories, on both relational stores."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tallyman.domain.access import JOB, LOCAL, Scope
from tallyman.domain.meter import Aggregation, Meter
from tallyman.errors import Conflict, NotFound
from tallyman.store.api_keys import ApiKeyStore
from tallyman.store.audit import AuditEntry, AuditLog, record_document
from tallyman.store.audit_pages import AuditPages, TimeComparison
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.meters import MeterChange, MeterStore

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
METER = Meter(
    id="",
    namespace="default",
    key="tokens",
    name="Tokens",
    aggregation=Aggregation.SUM,
    event_type="call",
    value_property="$.tokens",
    dimensions={"model": "$.model"},
    created_at=NOW,
    updated_at=NOW,
)


async def test_every_change_says_who_made_it_and_what_was_there_before(database: Database) -> None:
    meters, log = MeterStore(database), AuditLog(database)
    made = await meters.create(METER, by="key-1")
    await meters.change("default", made.id, MeterChange(name="Tokens used"), by="key-2")
    await meters.delete("default", made.id)

    entries = await log.entries("default", "meter", made.id)

    assert [(entry.action, entry.actor) for entry in entries] == [
        ("created", "key-1"),
        ("changed", "key-2"),
        ("deleted", LOCAL),
    ]
    names = [
        ((entry.before or {}).get("name"), (entry.after or {}).get("name")) for entry in entries
    ]
    assert names == [(None, "Tokens"), ("Tokens", "Tokens used"), ("Tokens used", None)]
    assert all(entry.at.tzinfo is not None for entry in entries)
    assert await log.entries("theirs", "meter", made.id) == []


async def test_a_change_that_fails_leaves_no_line(database: Database) -> None:
    meters, log = MeterStore(database), AuditLog(database)
    made = await meters.create(METER)

    with pytest.raises(Conflict):
        await meters.create(METER)
    with pytest.raises(NotFound):
        await meters.delete("theirs", made.id)

    assert len(await log.entries("default", "meter", made.id)) == 1


async def test_a_key_is_logged_without_its_digest(database: Database) -> None:
    keys, log = ApiKeyStore(database), AuditLog(database)
    key, _ = await keys.create("default", "gateway", [Scope.INGEST])
    await keys.revoke(key.id)
    await keys.revoke(key.id)

    entries = await log.entries("default", "api_key", key.id)

    assert [entry.action for entry in entries] == ["created", "revoked"]
    assert "sha256" not in str(entries)


async def test_what_is_done_together_is_kept_or_undone_together(database: Database) -> None:
    meters, log = MeterStore(database), AuditLog(database)
    await meters.add_built_in("default")

    async def make_it_twice() -> None:
        async with database.together():
            made = await meters.create(METER)
            assert (await meters.get("default", "tokens")) == made
            await meters.create(METER)

    with pytest.raises(Conflict):
        await make_it_twice()
    async with database.together():
        await meters.create(replace(METER, key="first"))
        second = await meters.create(replace(METER, key="second"))

    with pytest.raises(NotFound):
        await meters.get("default", "tokens")
    assert (await meters.get("default", "second")) == second
    assert len(await log.entries("default", "meter", second.id)) == 1


async def test_the_log_is_read_newest_first_with_the_names_of_keys(database: Database) -> None:
    keys, pages = ApiKeyStore(database), AuditPages(database)
    till, _ = await keys.create("default", "till", [Scope.BILLING])
    meters = MeterStore(database)
    made = await meters.create(METER, by=till.id)
    await meters.change("default", made.id, MeterChange(name="N"), by=JOB)

    first = await pages.page("default", size=2)
    [last] = await pages.page("default", size=2, after=first[-1].id)
    forward = await pages.page("default", descending=False)
    by_job = await pages.page("default", [Comparison("actor", "contains", ("billing",))])
    since = await pages.page("default", [TimeComparison("gt", first[0].at - timedelta(days=1))])

    assert [(one.actor, one.actor_name, one.entity) for one in (*first, last)] == [
        (JOB, None, "meter"),
        (till.id, "till", "meter"),
        (LOCAL, None, "api_key"),
    ]
    assert forward == [last, *first[::-1]]
    assert by_job == first[:1]
    assert since == [*first, last]
    assert await pages.page("theirs") == []


async def test_secrets_are_masked_in_the_log(database: Database) -> None:
    entry = AuditEntry(
        "default", NOW, "key-1", "changed", "customer", "c", None,
        {"stripe": {"client_secret": "shh", "password": None}, "tokens": 3},
    )  # fmt: skip
    async with database.writing() as connection:
        await record_document(connection, entry)

    [line] = await AuditPages(database).page("default")

    assert line.after == {"stripe": {"client_secret": "***", "password": None}, "tokens": 3}
