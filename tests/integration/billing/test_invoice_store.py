"""Invoices on both relational stores: kept to the last digit, billed once, numbered without gaps."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

import pytest
from tallyman.domain.counting import Counting, Metered
from tallyman.domain.customer import SubjectSpan
from tallyman.domain.duration import Duration
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.invoice import Invoice, ValidationIssue
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.meter import Aggregation, DimensionFilter, Meter
from tallyman.domain.period import EPOCH
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    GraduatedPrice,
    Operation,
    PriceTier,
    UnitConfig,
)
from tallyman.domain.rate_card import TaxConfig
from tallyman.errors import NotFound
from tallyman.store.audit import AuditLog
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.invoice_selection import TimeComparison
from tallyman.store.invoices import InvoiceStore

from tests.rigs.sold import NOVEMBER, PER_TOKEN, card, customer, draft, subscription

ACME = customer("acme")
TIERED = GraduatedPrice((PriceTier(D(10_000), D(0)), PriceTier(None, D("1E-7"), D("0.10"))))


def full() -> Invoice:
    """An invoice that has everything that one can have."""
    sold = subscription(
        ACME,
        card("input"),
        card(
            "output",
            TIERED,
            unit_config=UnitConfig(Operation.DIVIDE, D("1000")),
            discounts=Discounts(D("12.5"), D(3)),
            commitments=Commitments(D("0.01"), D(99)),
            entitlement=MeteredEntitlement(D(1_000_000), True, Duration(1)),
            tax_config=TaxConfig("tax", "inclusive"),
            labels={"a": "b"},
        ),
        card("base", FlatPrice(D("19.99"))),
    )
    meter = Meter(
        "m", "default", "tokens", "Tokens", Aggregation.SUM, "llm.tokens", "$.tokens",
        {"type": "$.type"}, EPOCH, EPOCH, only=("type", "request"),
    )  # fmt: skip
    nested = DimensionFilter("type", "or", nested=(DimensionFilter("type", "eq", ("request",)),))
    return replace(
        draft(ACME, sold),
        validation_issues=(ValidationIssue("code", "Something."),),
        counting=Counting(
            (SubjectSpan("acme", None, NOVEMBER.to),), {"feature": Metered(meter, (nested,))}
        ),
        watermark=NOVEMBER.to,
        labels={"team": "a"},
    )


def issued(invoice: Invoice) -> Invoice:
    return replace(invoice, state=InvoiceState.ISSUED, issued_at=NOVEMBER.to)


async def test_an_invoice_is_read_as_it_was_made(database: Database) -> None:
    store = InvoiceStore(database)

    [made] = await store.add("default", [full()])

    assert made == full()
    assert await store.get("default", made.id) == made
    with pytest.raises(NotFound):
        await store.get("other", made.id)


async def test_of_many_that_bill_at_once_one_does(database: Database) -> None:
    stores = [InvoiceStore(database) for _ in range(4)]

    made = await asyncio.gather(*(store.add("default", [issued(full())]) for store in stores))

    assert sorted(len(one) for one in made) == [0, 0, 0, 1]
    assert (await stores[0].page("default"))[1] == 1


async def test_a_line_is_billed_once_whatever_invoice_it_is_on(database: Database) -> None:
    store = InvoiceStore(database)
    await store.add("default", [full()])

    again = await store.add("default", [replace(full(), id="2".ljust(26, "0"), number="DRAFT-2")])

    assert again == []


async def test_what_was_changed_meanwhile_is_left_as_it_is(database: Database) -> None:
    store = InvoiceStore(database)
    [made] = await store.add("default", [full()])
    first = await store.replace("default", [(made, replace(made, description="first"))])

    second = await store.replace("default", [(made, replace(made, description="second"))])

    assert [one.description for one in first] == ["first"]
    assert second == []
    assert (await store.get("default", made.id)).description == "first"


async def test_final_invoices_are_numbered_one_after_the_other(database: Database) -> None:
    store = InvoiceStore(database)
    drafts = [
        draft(whose, subscription(whose, card("input"))) for whose in map(customer, ("a", "b", "c"))
    ]
    kept = await store.add("default", drafts)
    assert all(one.number.startswith("DRAFT-") for one in kept)

    first = await store.replace("default", [(kept[0], issued(kept[0]))])
    rest = await store.replace("default", [(one, issued(one)) for one in kept[1:]])
    paid = replace(first[0], state=InvoiceState.PAID)
    [again] = await store.replace("default", [(first[0], paid)])

    assert [one.number for one in (*first, *rest)] == ["INV-000001", "INV-000002", "INV-000003"]
    assert again.number == "INV-000001"


async def test_the_lines_of_a_deleted_draft_may_be_billed_again(database: Database) -> None:
    store = InvoiceStore(database)
    [made] = await store.add("default", [full()])
    gone = replace(made, state=InvoiceState.DELETED, deleted_at=NOVEMBER.to)
    await store.replace("default", [(made, gone)])

    again = await store.add("default", [replace(full(), id="2".ljust(26, "0"), number="DRAFT-2")])

    assert len(again) == 1
    assert [one.id for one in (await store.page("default"))[0]] == [again[0].id]
    assert (await store.get("default", made.id)).lines == made.lines


async def test_only_what_may_go_on_wakes(database: Database) -> None:
    store = InvoiceStore(database)
    waits = full()
    later = replace(
        draft(customer("later"), subscription(customer("later"), card("input"))),
        collection_at=NOVEMBER.to + timedelta(hours=1),
    )
    manual = replace(
        draft(customer("manual"), subscription(customer("manual"), card("input"))),
        state=InvoiceState.DRAFT_MANUAL_APPROVAL_NEEDED,
    )
    await store.add("default", [waits, later, manual])

    assert [one.id for one in await store.waking("default", NOVEMBER.to)] == [waits.id]
    assert await store.waking("default", NOVEMBER.to - timedelta(seconds=1)) == []
    assert await store.waking("default", NOVEMBER.to, customer_ids=[later.customer.id]) == []


async def test_invoices_are_listed_by_what_the_api_filters_by(database: Database) -> None:
    store = InvoiceStore(database)
    other = customer("other")
    await store.add("default", [full(), issued(draft(other, subscription(other, card("x"))))])

    drafts, total = await store.page("default", [Comparison("status", "eq", ("draft",))])
    since = [TimeComparison("issued_at", "gte", NOVEMBER.to)]

    assert ([one.customer.key for one in drafts], total) == (["acme"], 1)
    assert [one.customer.key for one in (await store.page("default", times=since))[0]] == ["other"]
    assert dict(await store.count_by_status()) == {
        ("draft", "draft.waiting_for_collection"): 1,
        ("issued", "issued"): 1,
    }


async def test_each_change_of_an_invoice_is_in_the_audit_log(database: Database) -> None:
    store = InvoiceStore(database)
    [made] = await store.add("default", [full()], by="key-1")
    await store.replace("default", [(made, issued(made))], by="key-2", action="approved")

    entries = await AuditLog(database).entries("default", "invoice", made.id)

    assert [(one.actor, one.action) for one in entries] == [
        ("key-1", "created"),
        ("key-2", "approved"),
    ]
    assert entries[1].after is not None
    assert entries[1].after["number"] == "INV-000001"
    assert entries[1].after["total"] == str(made.totals.total)


async def test_a_thousand_invoices_of_ten_lines_are_kept_in_a_second_or_two(
    database: Database,
) -> None:
    store = InvoiceStore(database)
    cards = [card(f"card_{number}", PER_TOKEN) for number in range(10)]
    many = [
        draft(whose, subscription(whose, *cards))
        for whose in (customer(f"c{number}") for number in range(1000))
    ]
    started = asyncio.get_running_loop().time()

    kept = await store.add("default", many)

    assert len(kept) == 1000
    assert asyncio.get_running_loop().time() - started < 10
