"""Billing profiles on both relational stores."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tallyman.domain.billing_profile import BillingProfile, Supplier, Workflow
from tallyman.domain.customer import Address
from tallyman.domain.duration import Cadence, Duration
from tallyman.errors import Conflict, Gone
from tallyman.store.audit import AuditLog
from tallyman.store.billing_profiles import BillingProfileChange, BillingProfileStore, profile_of
from tallyman.store.database import Database

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def profile(name: str = "Ours", *, is_default: bool = False) -> BillingProfile:
    return BillingProfile(
        id="",
        namespace="default",
        name=name,
        supplier=Supplier(name="Tallyman Ltd", billing_address=Address(country="GB", city="York")),
        workflow=Workflow(
            collection_interval=Duration(0, timedelta(days=2)),
            anchored=Cadence(NOW, Duration(1)),
            draft_period=Duration(0, timedelta(days=1)),
        ),
        is_default=is_default,
        created_at=NOW,
        updated_at=NOW,
        labels={"team": "billing"},
    )


async def test_a_namespace_has_one_default_profile_however_many_ask_first(
    database: Database,
) -> None:
    found = await asyncio.gather(
        *(BillingProfileStore(database).default("default") for _ in range(4))
    )

    assert len({one.id for one in found}) == 1
    assert found[0].workflow == Workflow()
    assert (await BillingProfileStore(database).page("default"))[1] == 1


async def test_a_profile_is_read_as_it_was_made(database: Database) -> None:
    store = BillingProfileStore(database)

    made = await store.create(profile())

    assert made == replace(profile(), id=made.id)
    assert await store.get("default", made.id) == made


async def test_a_new_default_takes_the_place_of_the_old_one(database: Database) -> None:
    store = BillingProfileStore(database)
    first = await store.default("default")

    made = await store.create(profile(is_default=True))

    assert await store.default("default") == made
    assert (await store.get("default", first.id)).is_default is False


async def test_the_default_profile_can_neither_be_deleted_nor_only_unmade(
    database: Database,
) -> None:
    store = BillingProfileStore(database)
    default = await store.default("default")
    unmade = BillingProfileChange("Default", Supplier(), Workflow(), is_default=False)

    with pytest.raises(Conflict, match="must be the default"):
        await store.delete("default", default.id, NOW)
    with pytest.raises(Conflict, match="must be the default"):
        await store.replace("default", default.id, unmade, NOW)


async def test_a_customer_of_a_deleted_profile_has_the_default_one(database: Database) -> None:
    store = BillingProfileStore(database)
    made = await store.create(profile())
    assert profile_of(await store.every("default"), made.id) == made

    await store.delete("default", made.id, NOW, by="key-1")

    default = await store.default("default")
    assert profile_of(await store.every("default"), made.id) == default
    assert profile_of(await store.every("default"), None) == default
    with pytest.raises(Gone):
        await store.get("default", made.id)
    entries = await AuditLog(database).entries("default", "profile", made.id)
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("created", "local"),
        ("deleted", "key-1"),
    ]
