"""Credit that is topped up: bought once, in effect when it is paid, within its limits."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

import pytest
from tallyman.domain.billing_profile import App
from tallyman.domain.credit import CreditGrant, GrantStatus
from tallyman.domain.credit_top_up import CreditTopUp
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.stripe_operation import OperationKind
from tallyman.payments.stripe_app import StripeApp
from tallyman.store.credit_grants import CreditGrantStore
from tallyman.store.credit_ledger import CreditLedger
from tallyman.store.credit_top_ups import CreditTopUpStore
from tallyman.store.stripe_operations import Heard
from ulid import ULID

from tests.integration.payments.conftest import Till
from tests.integration.payments.killing import work_until_killed
from tests.rigs import sold

NOTHING = D(0)


def hearing(till: Till) -> StripeApp:
    """The app as the server has it, which tells credit what became of its payments."""
    return till.restart(heard_by(till))


def heard_by(till: Till) -> Mapping[OperationKind, Heard]:
    return {OperationKind.TOP_UP: CreditTopUpStore(till.database).hear}


@pytest.fixture
async def app(till: Till) -> AsyncIterator[StripeApp]:
    """The one that a test works with."""
    made = hearing(till)
    yield made
    await made.close()


async def setting(till: Till) -> CreditTopUp:
    """10.00 whenever less than 5.00 is left, and 25.00 a month at most."""
    customer = await till.customer()
    terms = {"threshold": D("5.00"), "amount": D("10.00"), "most_per_month": D("25.00")}
    made = CreditTopUp(
        till.namespace, customer.id, "USD", **terms, created_at=till.now, updated_at=till.now
    )
    return await CreditTopUpStore(till.database).put(made)


async def begun(till: Till, wanted: CreditTopUp, live: D = NOTHING) -> CreditGrant | None:
    return await CreditTopUpStore(till.database).begin(wanted, live, till.now)


async def left(till: Till, wanted: CreditTopUp) -> list[tuple[GrantStatus, D]]:
    """Each grant's status, and what is booked of it."""
    found = await CreditGrantStore(till.database).left([wanted.customer_id])
    return [(one.grant.status_at(till.now), one.booked) for one in found]


async def test_credit_is_bought_below_the_threshold_and_in_effect_when_it_is_paid(
    till: Till, app: StripeApp
) -> None:
    wanted = await setting(till)
    assert await begun(till, wanted, D("5.00")) is None
    grant = await begun(till, wanted, D("4.99"))
    before = await left(till, wanted)
    await app.work()

    assert before == [(GrantStatus.PENDING, D(0))]
    assert await left(till, wanted) == [(GrantStatus.ACTIVE, D("10.00"))]
    assert [amount for _, amount in till.stripe.payments] == [1000]
    [booked] = await CreditLedger(till.database).page(wanted.customer_id)
    assert (booked.name, booked.amount) == ("Top-up 1", D("10.00"))
    assert grant is not None


async def test_any_number_of_servers_at_once_buy_it_once(till: Till, app: StripeApp) -> None:
    wanted = await setting(till)
    made = await asyncio.gather(*(begun(till, wanted) for _ in range(4)))
    await asyncio.gather(app.work(), app.work())

    assert sum(one is not None for one in made) == 1
    assert await left(till, wanted) == [(GrantStatus.ACTIVE, D("10.00"))]
    assert len(till.stripe.payments) == 1


async def test_nothing_more_is_bought_while_one_is_unpaid_or_the_month_is_full(
    till: Till, app: StripeApp
) -> None:
    wanted = await setting(till)
    till.stripe.declines = "declined"
    first = await begun(till, wanted)
    assert first is not None
    await app.work()
    assert await begun(till, wanted) is None
    await CreditTopUpStore(till.database).cancel(first, till.now)
    await app.work()
    till.stripe.declines = None
    assert await left(till, wanted) == [(GrantStatus.VOIDED, D(0))]
    till.wait(timedelta(days=1))
    for _ in range(2):
        assert await begun(till, wanted) is not None
        await app.work()

    assert await begun(till, wanted) is None  # 20.00 of 25.00
    till.wait(timedelta(days=31))
    assert await begun(till, wanted) is not None


async def test_what_stripe_refuses_is_asked_for_again_after_a_day_or_when_it_is_put_anew(
    till: Till, app: StripeApp
) -> None:
    wanted = await setting(till)
    till.stripe.refuses = "No such customer"
    assert await begun(till, wanted) is not None
    await app.work()
    assert await left(till, wanted) == [(GrantStatus.VOIDED, D(0))]
    till.wait(timedelta(hours=23))
    assert await begun(till, wanted) is None
    assert await begun(till, replace(wanted, updated_at=till.now)) is not None
    await app.work()
    till.wait(timedelta(hours=24))

    assert await begun(till, wanted) is not None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_leaves_one_payment_and_one_grant(
    till: Till, app: StripeApp, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await setting(till)
    await begun(till, wanted)
    number = 1
    while await work_until_killed(till, when, number, monkeypatch, heard_by(till)):
        number += 1
        till.wait(timedelta(minutes=10))
        await begun(till, wanted)
    till.wait(timedelta(hours=7))
    await app.work()

    assert number > 3
    assert [amount for _, amount in till.stripe.payments] == [1000]
    assert len(await left(till, wanted)) == 1


@pytest.mark.parametrize(("amount", "paid"), [("8.00", [1200]), ("100.00", [])])
async def test_stripe_is_paid_what_credit_leaves(till: Till, amount: str, paid: list[int]) -> None:
    customer = await till.customer()
    gift = CreditGrant(
        str(ULID()), till.namespace, customer.id, "USD", D(amount), "Gift", sold.NOVEMBER.from_,
        till.now, till.now,
    )  # fmt: skip
    at = sold.NOVEMBER.to
    await CreditGrantStore(till.database).create(gift, at)
    bought = sold.subscription(customer, sold.card("tokens"), sold.card("calls"))
    draft = sold.draft(customer, bought, 5_000_000)
    made = replace(
        draft, app=App.STRIPE, state=InvoiceState.ISSUING_SYNCING, quantity_snapshotted_at=at
    )
    [kept] = await till.invoices.add(till.namespace, [made])
    await till.app.work()
    done = await till.get(kept)

    assert (done.state, done.totals.amount) == (InvoiceState.PAID, D("20.00"))
    assert [amount for _, amount in till.stripe.payments] == paid
