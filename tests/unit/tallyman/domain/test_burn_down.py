"""Which grants pay for what: worked out by hand, and what must hold whatever the numbers are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.burn_down import Demand, burn_down, give_back, taken_from
from tallyman.domain.credit import (
    CreditGrant,
    CreditPurchase,
    GrantStatus,
    SettlementStatus,
)
from tallyman.domain.credit_ledger import (
    CreditAccount,
    CreditEntry,
    available_of,
    balance,
    ended,
    funded,
)
from tallyman.domain.period import Period

NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOW = NOVEMBER.to + timedelta(hours=1)
DAY = timedelta(days=1)
LATER = NOVEMBER.to + 90 * DAY


def grant(id_: str, amount: int | str = 10, **rest: Any) -> CreditGrant:
    given: dict[str, Any] = {
        "namespace": "default",
        "customer_id": "acme",
        "currency": "USD",
        "name": id_,
        "effective_at": NOVEMBER.from_,
        "created_at": NOVEMBER.from_,
        "updated_at": NOVEMBER.from_,
        **rest,
    }
    return CreditGrant(id=id_, amount=D(amount), **given)


def line(id_: str, amount: int | str | D, feature: str | None = None) -> Demand:
    return Demand(id_, D(amount), NOVEMBER, feature)


def drawn(grants: list[CreditGrant], demands: list[Demand]) -> list[tuple[str, str, str]]:
    available = {one.id: one.amount for one in grants}
    draws = burn_down(grants, available, demands, NOW)
    return [(one.grant_id, one.demand_id, str(one.amount)) for one in draws]


@pytest.mark.parametrize(
    ("grants", "demands", "expected"),
    [
        pytest.param([], [line("a", 5)], [], id="nothing is granted, nothing is paid"),
        pytest.param(
            [grant("g", "3.20")], [line("a", 5)], [("g", "a", "3.20")], id="as far as it goes"
        ),
        pytest.param(
            [grant("g")], [line("a", 4), line("b", 4), line("c", 4)],
            [("g", "a", "4"), ("g", "b", "4"), ("g", "c", "2")], id="the first line first",
        ),
        pytest.param(
            [grant("g1", priority=10), grant("g2", priority=1)], [line("a", 15)],
            [("g2", "a", "10"), ("g1", "a", "5")], id="the lowest priority first",
        ),
        pytest.param(
            [grant("g1"), grant("g2", expires_at=LATER), grant("g3", expires_at=LATER - DAY)],
            [line("a", 25)],
            [("g3", "a", "10"), ("g2", "a", "10"), ("g1", "a", "5")],
            id="of one priority the earliest to expire first, and last what never does",
        ),
        pytest.param(
            [grant("g1", effective_at=NOVEMBER.from_ + DAY), grant("g2")], [line("a", 12)],
            [("g2", "a", "10"), ("g1", "a", "2")], id="then the eldest",
        ),
        pytest.param(
            [grant("g2"), grant("g1")], [line("a", 12)],
            [("g1", "a", "10"), ("g2", "a", "2")], id="and then by id",
        ),
        pytest.param(
            [grant("g1", features=("gpt",)), grant("g2", priority=20)],
            [line("fee", 3), line("b", 4, "claude"), line("c", 20, "gpt")],
            [("g1", "c", "10"), ("g2", "fee", "3"), ("g2", "b", "4"), ("g2", "c", "3")],
            id="a grant for a feature pays for nothing else, not for a fee either",
        ),
        pytest.param(
            [grant("g", expires_at=NOVEMBER.from_ + DAY)], [line("a", 4)], [("g", "a", "4")],
            id="what expired within the period pays for it",
        ),
        pytest.param(
            [grant("g", expires_at=NOVEMBER.from_)], [line("a", 4)], [],
            id="what expired as it began does not",
        ),
        pytest.param(
            [grant("g", effective_at=NOVEMBER.to)], [line("a", 4)], [],
            id="what began as it ended does not",
        ),
        pytest.param(
            [grant("g", voided_at=NOW)], [line("a", 4)], [], id="what is voided does not"
        ),
        pytest.param(
            [grant("g", purchase=CreditPurchase("USD", D(10), waits_for_payment=True))],
            [line("a", 4)], [], id="what waits for its payment does not",
        ),
    ],
)  # fmt: skip
def test_grants_are_used_in_the_order_that_was_promised(
    grants: list[CreditGrant], demands: list[Demand], expected: list[tuple[str, str, str]]
) -> None:
    assert drawn(grants, demands) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, GrantStatus.ACTIVE, id="in effect"),
        pytest.param({"effective_at": NOW + DAY}, GrantStatus.PENDING, id="not yet"),
        pytest.param({"expires_at": NOW}, GrantStatus.EXPIRED, id="no more from its end on"),
        pytest.param({"expires_at": NOW, "voided_at": NOW}, GrantStatus.VOIDED, id="voided"),
        pytest.param(
            {"purchase": CreditPurchase("USD", D(9))}, GrantStatus.ACTIVE, id="paid for later"
        ),
        pytest.param(
            {"purchase": CreditPurchase("USD", D(9), waits_for_payment=True)},
            GrantStatus.PENDING,
            id="waits for its payment",
        ),
        pytest.param(
            {
                "purchase": CreditPurchase(
                    "USD", D(9), D(1), SettlementStatus.SETTLED, waits_for_payment=True
                )
            },
            GrantStatus.ACTIVE,
            id="paid",
        ),
    ],
)
def test_a_grant_says_where_it_stands(changes: dict[str, Any], expected: GrantStatus) -> None:
    assert replace(grant("g"), **changes).status_at(NOW) is expected


CENTS = st.integers(0, 10**6).map(lambda cents: D(cents).scaleb(-2))
FEATURES = st.sampled_from(["gpt", "claude", None])
GRANTS = st.lists(
    st.builds(
        grant,
        st.uuids().map(str),
        CENTS.filter(bool),
        priority=st.integers(1, 3),
        expires_at=st.sampled_from([None, LATER, LATER + DAY, NOVEMBER.from_]),
        features=st.sampled_from([(), ("gpt",), ("gpt", "claude")]),
    ),
    max_size=6,
)
DEMANDS = st.lists(st.tuples(CENTS, FEATURES), max_size=6).map(
    lambda given: [line(str(at), amount, feature) for at, (amount, feature) in enumerate(given)]
)


@given(GRANTS, DEMANDS, st.randoms())
def test_the_order_in_which_grants_arrive_changes_nothing(
    grants: list[CreditGrant], demands: list[Demand], chance: Any
) -> None:
    shuffled = list(grants)
    chance.shuffle(shuffled)

    assert drawn(grants, demands) == drawn(shuffled, demands)


@given(GRANTS, DEMANDS)
def test_no_grant_gives_more_than_it_has_and_nothing_is_paid_more_than_it_costs(
    grants: list[CreditGrant], demands: list[Demand]
) -> None:
    available = {one.id: one.amount for one in grants}
    draws = burn_down(grants, available, demands, NOW)

    for one in grants:
        assert sum(x.amount for x in draws if x.grant_id == one.id) <= one.amount
    for demand in demands:
        assert sum(x.amount for x in draws if x.demand_id == demand.id) <= demand.amount
    assert all(one.amount > 0 for one in draws)


@given(GRANTS, DEMANDS)
def test_credit_is_left_only_where_nothing_is_that_it_could_pay_for(
    grants: list[CreditGrant], demands: list[Demand]
) -> None:
    available = {one.id: one.amount for one in grants}
    draws = burn_down(grants, available, demands, NOW)

    for one in grants:
        left = one.amount - sum(x.amount for x in draws if x.grant_id == one.id)
        for demand in demands:
            owed = demand.amount - sum(x.amount for x in draws if x.demand_id == demand.id)
            pays = one.pays(demand.feature_key, demand.service_period, NOW)
            assert not (left and owed and pays)


@given(GRANTS, DEMANDS, CENTS)
def test_every_account_of_the_ledger_together_is_zero_whatever_is_booked(
    grants: list[CreditGrant], demands: list[Demand], amount: D
) -> None:
    entries = [entry for one in grants for entry in funded(one, NOW).entries]
    draws = burn_down(grants, available_of(entries), demands, NOW)
    used: dict[str, D] = {}
    for one in draws:
        used[one.grant_id] = used.get(one.grant_id, D(0)) + one.amount
        entries.append(
            CreditEntry(one.grant_id, CreditAccount.AVAILABLE, CreditAccount.CONSUMED, one.amount)
        )
    back = give_back(grants, used, amount)
    for grant_id, part in back.items():
        entries.append(CreditEntry(grant_id, CreditAccount.CONSUMED, CreditAccount.AVAILABLE, part))
    for number, grant_ in enumerate(grants):
        if left := available_of(entries)[grant_.id]:
            entries += ended(grant_, left, NOW, CreditAccount.EXPIRED, number).entries

    assert sum(balance(entries, account) for account in CreditAccount) == 0
    assert -balance(entries, CreditAccount.FUNDING) == sum(x.amount for x in grants)
    assert sum(back.values()) == min(amount, sum(used.values()))
    assert not any(available_of(entries).values())


@given(GRANTS, CENTS)
def test_what_is_taken_makes_the_amount_or_all_that_there_is(
    grants: list[CreditGrant], amount: D
) -> None:
    available = {one.id: one.amount for one in grants}

    taken = taken_from(grants, available, amount)

    assert sum(taken.values()) == min(amount, sum(available.values()))
    assert all(part <= available[grant_id] for grant_id, part in taken.items())


def test_an_entry_moves_something_from_one_account_to_another() -> None:
    for accounts, amount in (
        ((CreditAccount.FUNDING, CreditAccount.FUNDING), D(1)),
        ((CreditAccount.FUNDING, CreditAccount.AVAILABLE), D(0)),
        ((CreditAccount.FUNDING, CreditAccount.AVAILABLE), D(-1)),
    ):
        with pytest.raises(ValueError, match="moves an amount"):
            CreditEntry("g", *accounts, amount)
