"""Grants that add to an entitlement: burned down by hand, and what holds whatever the numbers are."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.entitlement_grant import (
    INCLUDED,
    Allowance,
    EntitlementGrant,
    allowances,
    burned,
    parts_of,
    successive_allowances,
)
from tallyman.domain.entitlement_period import EntitlementReset
from tallyman.domain.period import Period

from tests.rigs.sold import card, customer, subscription

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


TENS = Cadence(NOVEMBER, Duration(time=10 * DAY))
MONTHLY = Cadence(NOVEMBER + 14 * DAY, Duration(1))


def grant(id_: str, amount: int, **rest: Any) -> EntitlementGrant:
    given: dict[str, Any] = {
        "effective_at": NOVEMBER,
        "created_at": NOVEMBER,
        "updated_at": NOVEMBER,
        **rest,
    }
    return EntitlementGrant(id_, "default", "sub", "tokens", D(amount), **given)


def months(limit: int = 100, carried: int = 0) -> list[Allowance]:
    return [
        Allowance(Period(NOVEMBER, DECEMBER), D(limit), D(carried)),
        Allowance(Period(DECEMBER, JANUARY), D(limit)),
    ]


def left(
    periods: list[Allowance], grants: list[EntitlementGrant], used: dict[datetime, int]
) -> list[tuple[int, int]]:
    """The balance and the overage at the end of each part; usage is by when it was."""

    def usage(period: Period) -> D:
        return D(sum(x for at, x in used.items() if period.from_ <= at < period.to))

    return [(int(one.balance), int(one.overage)) for one in burned(periods, grants, usage)]


@pytest.mark.parametrize(
    ("grants", "used", "expected"),
    [
        pytest.param([], {NOVEMBER: 30}, [(70, 0), (100, 0)], id="the card's alone, anew each month"),
        pytest.param(
            [grant("g", 50)], {NOVEMBER: 120}, [(30, 0), (100, 0)],
            id="the card's first, and nothing of a grant is rolled over",
        ),
        pytest.param(
            [grant("g", 50, max_rollover=D(20))], {NOVEMBER: 120}, [(30, 0), (120, 0)],
            id="so much at most is rolled over",
        ),
        pytest.param(
            [grant("g", 50, min_rollover=D(40), max_rollover=D(45))], {NOVEMBER: 150},
            [(0, 0), (140, 0)], id="and so much at least",
        ),
        pytest.param(
            [grant("g", 50, max_rollover=D(50), effective_at=NOVEMBER + 9 * DAY)],
            {NOVEMBER: 120, NOVEMBER + 10 * DAY: 10}, [(0, 20), (40, 20), (140, 0)],
            id="it pays for nothing that was used before it began",
        ),
        pytest.param(
            [grant("g", 50, expires_at=NOVEMBER + 9 * DAY, max_rollover=D(50))],
            {NOVEMBER: 120, NOVEMBER + 10 * DAY: 10}, [(30, 0), (0, 10), (100, 0)],
            id="nothing is left of it from its end on",
        ),
        pytest.param(
            [grant("g", 50, voided_at=NOVEMBER + 9 * DAY)],
            {NOVEMBER: 120, NOVEMBER + 10 * DAY: 10}, [(30, 0), (0, 10), (100, 0)],
            id="nor of one that is voided",
        ),
        pytest.param(
            [
                grant("a", 10, priority=2, max_rollover=D(10)),
                grant("b", 10, priority=1, max_rollover=D(10)),
                grant("c", 10, priority=1, expires_at=JANUARY, max_rollover=D(10)),
            ],
            {NOVEMBER: 115}, [(15, 0), (115, 0)], id="by priority, then by which ends first",
        ),
        pytest.param(
            [grant("g", 50, recurrence=TENS)],
            {NOVEMBER: 130, NOVEMBER + 15 * DAY: 30, NOVEMBER + 20 * DAY: 60},
            # The parts begin on the 1st, 11th and 21st, then in December on the 1st, 11th, 21st, 31st.
            [(20, 0), (20, 0), (0, 10), (150, 0), (150, 0), (150, 0), (150, 0)],
            id="where it recurs it is whole again, and nothing is rolled over",
        ),
        pytest.param(
            [grant("g", 50, recurrence=TENS, voided_at=NOVEMBER + 12 * DAY)],
            {NOVEMBER: 120, NOVEMBER + 20 * DAY: 5},
            [(30, 0), (50, 0), (0, 5), (100, 0)], id="but not once it is voided",
        ),
        pytest.param(
            [grant("g", 50, recurrence=MONTHLY, max_rollover=D(10))],
            {NOVEMBER: 150}, [(0, 0), (50, 0), (110, 0), (150, 0)],
            id="by its anchor, and until then what is rolled over",
        ),
    ],
)  # fmt: skip
def test_grants_are_burned_down_as_worked_out_by_hand(
    grants: list[EntitlementGrant], used: dict[datetime, int], expected: list[tuple[int, int]]
) -> None:
    assert left(months(), grants, used) == expected


def test_of_several_grants_the_first_in_order_is_used_first() -> None:
    grants = [
        grant("a", 10, priority=2),
        grant("b", 10, priority=1),
        grant("c", 10, priority=1, expires_at=DECEMBER),
    ]
    first = burned(months(), grants, lambda period: D(115) if period.from_ == NOVEMBER else D(0))[0]

    assert first.used == {INCLUDED: D(100), "c": D(10), "b": D(5)}


def test_an_overage_that_is_carried_counts_against_the_next_allowance() -> None:
    assert left(months(carried=30), [], {NOVEMBER: 80}) == [(0, 10), (100, 0)]


def test_the_periods_follow_resets_and_the_anchor() -> None:
    sold = subscription(
        customer("acme"), card("tokens", entitlement=MeteredEntitlement(D(100))), at=NOVEMBER
    )
    moment = NOVEMBER + 10 * DAY
    reset = EntitlementReset(sold.id, "tokens", moment, retain_anchor=True)

    assert allowances(sold, "tokens", [reset], [], NOVEMBER, DECEMBER + DAY) == [
        Allowance(Period(NOVEMBER, moment), D(100)),
        Allowance(Period(moment, DECEMBER), D(100)),
        Allowance(Period(DECEMBER, JANUARY), D(100)),
    ]


@pytest.mark.parametrize(
    ("changed_at", "continues", "left_of_grant"),
    [
        pytest.param(NOVEMBER + 10 * DAY, True, 30, id="within a period what is left goes on"),
        pytest.param(DECEMBER, False, 0, id="at a reset it is rolled over, as without a change"),
    ],
)
def test_another_plan_takes_what_is_left_of_a_grant_on(
    changed_at: datetime, continues: bool, left_of_grant: int
) -> None:
    acme = customer("acme")
    starter = card("tokens", entitlement=MeteredEntitlement(D(100)))
    pro = card("tokens", entitlement=MeteredEntitlement(D(300)))
    served = [
        subscription(acme, starter, at=NOVEMBER, active_to=changed_at),
        subscription(acme, pro, at=changed_at, number=2, billing_anchor=NOVEMBER),
    ]
    until = changed_at + DAY

    found = successive_allowances(served, "tokens", [], [], NOVEMBER, until)

    end = DECEMBER if continues else JANUARY
    assert found == [
        Allowance(Period(NOVEMBER, changed_at), D(100)),
        Allowance(Period(changed_at, end), D(300), continues=continues),
    ]
    used = {NOVEMBER: 120, changed_at: 10}
    assert left(found, [grant("g", 50)], used)[-1] == (290 + left_of_grant, 0)


def test_a_plan_without_a_limit_in_between_uses_up_no_grant() -> None:
    acme, days = customer("acme"), [NOVEMBER, NOVEMBER + 5 * DAY, NOVEMBER + 10 * DAY, None]
    served = [
        subscription(
            acme, card("tokens", entitlement=MeteredEntitlement(limit)), at=begin or NOVEMBER,
            number=number, active_to=end, billing_anchor=NOVEMBER,
        )
        for number, (limit, begin, end) in enumerate(
            zip((D(100), None, D(300)), days, days[1:], strict=False), 1
        )
    ]  # fmt: skip

    found = successive_allowances(served, "tokens", [], [], NOVEMBER, NOVEMBER + 11 * DAY)

    assert [(one.limit, one.continues) for one in found] == [(D(100), False), (D(300), True)]
    used = {NOVEMBER: 120, NOVEMBER + 6 * DAY: 1000}
    assert left(found, [grant("g", 50)], used) == [(30, 0), (330, 0)]


AMOUNTS = st.integers(0, 200)
TIMES = st.integers(0, 80).map(lambda days: NOVEMBER - 10 * DAY + days * DAY)
GRANTS = st.lists(
    st.builds(
        grant,
        st.uuids().map(str),
        AMOUNTS,
        effective_at=TIMES,
        priority=st.integers(1, 3),
        expires_at=st.none() | TIMES,
        max_rollover=AMOUNTS.map(D),
        min_rollover=AMOUNTS.map(D),
        recurrence=st.none()
        | st.builds(Cadence, TIMES, st.sampled_from([Duration(1), Duration(time=7 * DAY)])),
    ),
    max_size=5,
)
USED = st.dictionaries(TIMES, AMOUNTS, max_size=6)


@given(GRANTS, USED, st.randoms())
def test_nothing_is_ever_below_zero_and_all_usage_is_paid_or_overage(
    grants: list[EntitlementGrant], used: dict[datetime, int], chance: Any
) -> None:
    def usage(period: Period) -> D:
        return D(sum(x for at, x in used.items() if period.from_ <= at < period.to))

    found = burned(months(), grants, usage)
    chance.shuffle(grants)

    assert burned(months(), grants, usage) == found
    assert [one.period for one in found] == parts_of(months(), grants)
    overage = D(0)
    for one in found:
        if one.period.from_ in (NOVEMBER, DECEMBER):
            overage = D(0)
        assert all(left >= 0 for left in one.at_end.values())
        assert sum(one.used.values()) + one.overage - overage == one.usage
        overage = one.overage
        for key, taken in one.used.items():
            assert one.at_start[key] - taken == one.at_end[key]
