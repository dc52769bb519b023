"""Events voided and amended: what counts follows, what was known stays known, nothing is lost."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal as D

import msgspec
import pytest
from sqlalchemy import update
from tallyman.billing.explain import explain_all
from tallyman.billing.recount import recounted
from tallyman.domain.event import CloudEvent
from tallyman.domain.event_change import Amendment, EventChange
from tallyman.domain.meter import DimensionFilter, MeterQuery
from tallyman.domain.price import UnitPrice
from tallyman.errors import Conflict, NotFound
from tallyman.store.audit import AuditLog
from tallyman.store.event_changes import EventChangeStore, Why
from tallyman.store.events import Received
from tallyman.store.tables import event_changes

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

WHY = Why("a test run", "key-1")


def data(tokens: int, type_: str = "request") -> msgspec.Raw:
    given = {"tokens": tokens, "type": type_, "model": "gpt-4o"}
    return msgspec.Raw(msgspec.json.encode(given))


@pytest.fixture
def changes(shop: Shop) -> EventChangeStore:
    return EventChangeStore(shop.database, shop.events)


async def send(shop: Shop, id_: str, tokens: int, at: datetime, subject: str = "acme") -> None:
    event = CloudEvent(id_, "kong", "llm.tokens", subject, time=at, data=data(tokens))
    await shop.events.accept([Received(shop.namespace, event, at)])


async def void(changes: EventChangeStore, shop: Shop, id_: str) -> EventChange:
    return await changes.void(shop.namespace, "kong", id_, WHY)


async def metered(shop: Shop) -> dict[str, D]:
    meter = await shop.books.meters.get(shop.namespace, "kong_konnect_llm_tokens")
    rows = await shop.events.query(meter, MeterQuery(group_by=("subject",)))
    return {row.dimensions["subject"]: row.value for row in rows}


async def sold(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    for key in ("acme", "other"):
        await shop.customer(key)
        await shop.subscribe(key)


async def totals(shop: Shop) -> list[tuple[str, D]]:
    return [(one.customer.key, one.totals.total) for one in await shop.invoices()]


async def test_a_voided_event_counts_for_nothing_and_is_still_there(
    shop: Shop, changes: EventChangeStore
) -> None:
    await send(shop, "a", 8, NOVEMBER)
    await send(shop, "b", 2, NOVEMBER)

    made = await void(changes, shop, "a")

    assert await metered(shop) == {"acme": D(2)}
    page = await shop.events.list_events(shop.namespace)
    listed = {one.event.id: (one.is_voided, one.revision) for one in page.events}
    assert listed == {"a": (True, 1), "b": (False, 0)}
    assert await changes.of(shop.namespace, [("kong", "a"), ("kong", "b")]) == {
        ("kong", "a"): [made]
    }
    assert (made.reason, made.actor, bytes(made.before.data)) == (
        "a test run", "key-1", bytes(data(8)),
    )  # fmt: skip
    [entry] = await AuditLog(shop.database).entries(shop.namespace, "event", "kong a")
    assert (entry.action, entry.actor) == ("voided", "key-1")


async def test_an_amended_event_counts_as_it_says_now(
    shop: Shop, changes: EventChangeStore
) -> None:
    await send(shop, "a", 8, NOVEMBER)

    await changes.amend(shop.namespace, "kong", "a", Amendment(data=data(3)), WHY)
    once = await metered(shop)
    await changes.amend(shop.namespace, "kong", "a", Amendment(subject="other"), WHY)
    moved = await metered(shop)
    await changes.amend(shop.namespace, "kong", "a", Amendment(subject="acme"), WHY)

    assert (once, moved, await metered(shop)) == (
        {"acme": D(3)}, {"other": D(3)}, {"acme": D(3)},
    )  # fmt: skip
    [listed] = (await shop.events.list_events(shop.namespace)).events
    assert (listed.revision, listed.event.subject, bytes(listed.event.data)) == (
        3, "acme", bytes(data(3)),
    )  # fmt: skip
    assert await shop.events.count(shop.namespace) == 1


async def test_one_subjects_minute_says_after_every_change_what_all_of_it_says(
    shop: Shop, changes: EventChangeStore
) -> None:
    meter = await shop.books.meters.get(shop.namespace, "kong_konnect_llm_tokens")
    await send(shop, "a", 8, NOVEMBER)

    async def alone(subject: str) -> list[D]:
        theirs = (DimensionFilter("subject", "eq", (subject,)),)
        minute = MeterQuery(NOVEMBER, NOVEMBER + timedelta(minutes=1), filters=theirs)
        return [row.value for row in await shop.events.query(meter, minute)]

    async def seen() -> tuple[list[D], list[D], dict[str, D]]:
        return await alone("acme"), await alone("other"), await metered(shop)

    found = [await seen()]
    for change in (
        Amendment(data=data(3)),
        Amendment(subject="other"),
        Amendment(subject="acme", data=data(5)),
        None,
        Amendment(subject="other", data=data(4)),
    ):
        if change is None:
            await void(changes, shop, "a")
        else:
            await changes.amend(shop.namespace, "kong", "a", change, WHY)
        found.append(await seen())

    assert found == [
        ([D(8)], [], {"acme": D(8)}),
        ([D(3)], [], {"acme": D(3)}),
        ([], [D(3)], {"other": D(3)}),
        ([D(5)], [], {"acme": D(5)}),
        ([], [], {}),
        ([], [D(4)], {"other": D(4)}),
    ]


async def test_an_event_as_it_came_is_still_among_the_events_after_every_change(
    shop: Shop, changes: EventChangeStore
) -> None:
    await send(shop, "a", 8, NOVEMBER)
    await changes.amend(shop.namespace, "kong", "a", Amendment(data=data(3)), WHY)
    await void(changes, shop, "a")
    await shop.clickhouse.command("OPTIMIZE TABLE events FINAL")

    rows = await shop.clickhouse.rows(
        "SELECT revision, change, data FROM events FINAL WHERE namespace = {name:String} "
        "ORDER BY revision",
        {"name": shop.namespace},
    )

    assert [(revision, change) for revision, change, _ in rows] == [
        (0, ""), (1, "amended"), (2, "voided"),
    ]  # fmt: skip
    assert [json for _, _, json in rows[:2]] == [bytes(data(8)).decode(), bytes(data(3)).decode()]
    [*_, last] = (await changes.of(shop.namespace, [("kong", "a")]))["kong", "a"]
    assert (bytes(last.before.data), last.after) == (bytes(data(3)), None)


async def test_a_closed_invoice_stays_and_the_next_one_corrects_it(
    shop: Shop, changes: EventChangeStore
) -> None:
    await sold(shop)
    await send(shop, "a", 8, NOVEMBER)
    await send(shop, "b", 20, NOVEMBER + timedelta(days=3))
    await send(shop, "c", 100, NOVEMBER + timedelta(days=4), "other")
    await shop.bill(DECEMBER + COLLECTED)
    await void(changes, shop, "a")
    amended = Amendment(subject="other", data=data(30))
    await changes.amend(shop.namespace, "kong", "b", amended, WHY)

    await shop.bill(JANUARY + COLLECTED)

    invoices = await shop.invoices()
    assert sorted(await totals(shop)) == [
        ("acme", D(-28)), ("acme", D(28)), ("other", D(30)), ("other", D(100)),
    ]  # fmt: skip
    for invoice in invoices:
        if invoice.invoice_at == DECEMBER:
            assert await recounted(shop.books, invoice) == invoice.lines
        _, lines = await explain_all(shop.books, shop.namespace, invoice.id)
        assert [line.problems for line in lines] == [()] * len(lines)


async def test_an_open_invoice_follows(shop: Shop, changes: EventChangeStore) -> None:
    await sold(shop)
    await send(shop, "a", 8, NOVEMBER)
    await send(shop, "b", 20, NOVEMBER)
    await shop.bill(DECEMBER)
    before = await totals(shop)
    await void(changes, shop, "a")

    await shop.bill(DECEMBER + COLLECTED)

    assert sorted(before) == [("acme", D(28)), ("other", D(0))]
    assert sorted(await totals(shop)) == [("acme", D(20)), ("other", D(0))]


async def test_a_voided_event_that_is_sent_again_stays_voided(
    shop: Shop, changes: EventChangeStore
) -> None:
    await send(shop, "a", 8, NOVEMBER)
    first = await void(changes, shop, "a")

    await send(shop, "a", 8, NOVEMBER)
    await shop.clickhouse.command("OPTIMIZE TABLE events FINAL")
    again = await void(changes, shop, "a")

    assert await metered(shop) == {}
    assert again == first


async def test_an_event_without_data_can_be_changed(shop: Shop, changes: EventChangeStore) -> None:
    bare = CloudEvent("a", "kong", "ping", "acme", time=NOVEMBER)
    await shop.events.accept([Received(shop.namespace, bare, NOVEMBER)])

    made = await void(changes, shop, "a")
    amended = await changes.amend(shop.namespace, "kong", "a", Amendment(data=data(1)), WHY)

    found = await changes.of(shop.namespace, [("kong", "a")])
    assert found == {("kong", "a"): [made, amended]}


async def test_a_void_by_mistake_is_taken_back_by_an_amendment(
    shop: Shop, changes: EventChangeStore
) -> None:
    await send(shop, "a", 8, NOVEMBER)
    await void(changes, shop, "a")

    await changes.amend(shop.namespace, "kong", "a", Amendment(data=data(8)), WHY)

    assert await metered(shop) == {"acme": D(8)}


async def test_a_change_that_was_cut_off_is_stored_at_the_next_start(
    shop: Shop, changes: EventChangeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(shop, "a", 8, NOVEMBER)
    with monkeypatch.context() as dying:
        dying.setattr(shop.events, "store_change", _die)
        with pytest.raises(KeyboardInterrupt):
            await void(changes, shop, "a")
    cut_off = await metered(shop)

    assert await changes.store_pending() == 1
    async with shop.database.writing() as connection:  # stored, and then killed
        mine = update(event_changes).where(event_changes.c.namespace == shop.namespace)
        await connection.execute(mine.values(stored_at=None))
    await changes.store_pending()

    assert (cut_off, await metered(shop)) == ({"acme": D(8)}, {})
    assert await changes.store_pending() == 0


async def _die(_change: EventChange) -> None:
    raise KeyboardInterrupt


async def test_of_two_changes_at_once_both_follow_each_other_or_one_is_refused(
    shop: Shop, changes: EventChangeStore
) -> None:
    await send(shop, "a", 8, NOVEMBER)

    made = await asyncio.gather(
        *(
            changes.amend(shop.namespace, "kong", "a", Amendment(data=data(tokens)), WHY)
            for tokens in (1, 2, 3)
        ),
        return_exceptions=True,
    )

    done = [one for one in made if isinstance(one, EventChange)]
    assert all(isinstance(one, EventChange | Conflict) for one in made)
    last = max(done, key=lambda one: one.revision)
    assert last.after is not None
    tokens = msgspec.json.decode(bytes(last.after.data))["tokens"]
    assert await metered(shop) == {"acme": D(tokens)}


async def test_what_is_not_stored_cannot_be_changed(shop: Shop, changes: EventChangeStore) -> None:
    await send(shop, "a", 8, NOVEMBER)

    with pytest.raises(NotFound):
        await void(changes, shop, "b")
    with pytest.raises(Conflict):
        await changes.amend(shop.namespace, "kong", "a", Amendment(data=data(8)), WHY)
