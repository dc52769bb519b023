"""Customers and whose usage a subject's is, on both relational stores."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tallyman.domain.customer import Address, Customer, SubjectSpan
from tallyman.errors import Conflict, Gone
from tallyman.store.audit import AuditLog
from tallyman.store.customers import CustomerChange, CustomerStore
from tallyman.store.database import Database

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def alice(key: str = "alice", *subjects: str, **changed: Any) -> Customer:
    return Customer(
        id="",
        namespace="default",
        key=key,
        name=key.title(),
        created_at=NOW,
        updated_at=NOW,
        subject_keys=subjects,
        **changed,
    )


@pytest.fixture
def customers(database: Database) -> CustomerStore:
    return CustomerStore(database)


async def give(store: CustomerStore, key: str, at: datetime, *subjects: str) -> Customer:
    """The customer with these subjects and no others from now on."""
    return await store.replace("default", key, CustomerChange(key.title(), subjects), at)


async def test_a_customer_comes_back_as_it_was_given(customers: CustomerStore) -> None:
    given = alice(
        "a", "two", "one", billing_address=Address("DE", city="Berlin"), labels={"a": "b"},
        currency="EUR", primary_email="a@example.com", description="d",
    )  # fmt: skip

    made = await customers.create(given, by="a-key")

    assert replace(made, id="") == given
    assert await customers.get("default", made.id) == made
    assert await customers.get("default", "a") == made
    assert await customers.every() == [made]
    assert await customers.with_ids("default", [made.id, "nobody"]) == [made]


async def test_a_conflict_names_the_customer_that_has_the_subject(
    customers: CustomerStore,
) -> None:
    await customers.create(alice("a", "one"))

    with pytest.raises(Conflict, match="the subject one belongs to the customer a"):
        await customers.create(alice("b", "two", "one"))

    assert [found.key for found in await customers.every()] == ["a"]


async def test_of_two_that_claim_a_subject_at_once_one_has_it(customers: CustomerStore) -> None:
    answers = await asyncio.gather(
        *(customers.create(alice(f"c{number}", "one")) for number in range(6)),
        return_exceptions=True,
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict"] * 5 + ["Customer"]
    assert len(await customers.every()) == 1


async def test_a_claim_reaches_back_to_the_beginning_and_a_moved_subject_leaves_its_past_behind(
    customers: CustomerStore,
) -> None:
    a = await customers.create(alice("a", "one"))
    b = await customers.create(alice("b"))
    await give(customers, "a", NOW + HOUR)
    await give(customers, "b", NOW + 3 * HOUR, "one")

    spans = await customers.spans([a.id, b.id])

    assert spans == {
        a.id: (SubjectSpan("one", None, NOW + HOUR),),
        # what came while it was nobody's counts too
        b.id: (SubjectSpan("one", NOW + HOUR, None),),
    }


async def test_a_subject_taken_back_is_one_span_again(customers: CustomerStore) -> None:
    a = await customers.create(alice("a", "one"))
    await give(customers, "a", NOW + HOUR)
    await give(customers, "a", NOW + 2 * HOUR, "two", "one")

    assert (await customers.spans([a.id]))[a.id] == (SubjectSpan("one"), SubjectSpan("two"))
    assert (await customers.get("default", "a")).subject_keys == ("two", "one")


async def test_what_was_known_then_can_be_told(customers: CustomerStore) -> None:
    a = await customers.create(alice("a", "one"))
    b = await customers.create(alice("b"))
    await give(customers, "a", NOW + 2 * HOUR)
    await give(customers, "b", NOW + 2 * HOUR, "one")

    then = await customers.spans([a.id, b.id], as_of=NOW + HOUR)

    assert then == {a.id: (SubjectSpan("one"),)}


async def test_the_subjects_of_a_deleted_customer_are_free_and_its_past_stays(
    customers: CustomerStore,
) -> None:
    a = await customers.create(alice("a", "one"))
    await customers.delete("default", "a", NOW + HOUR)
    b = await customers.create(replace(alice("a", "one"), created_at=NOW + 2 * HOUR))

    with pytest.raises(Gone):
        await customers.get("default", a.id)
    [deleted] = await customers.with_ids("default", [a.id])
    assert (deleted.subject_keys, deleted.deleted_at) == (("one",), NOW + HOUR)
    assert await customers.of_subjects("default", ["one", "two"]) == {"one": b.id}
    assert sorted((await customers.owners("default", ["one", "two"]))["one"], key=str) == sorted(
        [(a.id, SubjectSpan("one", None, NOW + HOUR)), (b.id, SubjectSpan("one", NOW + HOUR))],
        key=str,
    )


async def test_what_changes_nothing_is_no_change(
    database: Database, customers: CustomerStore
) -> None:
    made = await customers.create(alice("alice", "one"), by="key-1")

    assert await give(customers, "alice", NOW + HOUR, "one") == made

    await give(customers, "alice", NOW + HOUR, "one", "two")
    entries = await AuditLog(database).entries("default", "customer", made.id)
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("created", "key-1"),
        ("changed", "local"),
    ]
    assert entries[1].before is not None
    assert entries[1].after is not None
    assert (entries[1].before["subject_keys"], entries[1].after["subject_keys"]) == (
        ["one"],
        ["one", "two"],
    )
