"""Subscriptions in time: phases, what is due when, and what a change makes of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.billable import Billable, due, in_service, next_due
from tallyman.domain.content_id import content_id
from tallyman.domain.duration import Duration, parse_duration
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import FlatPrice, UnitPrice
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard
from tallyman.domain.service_period import EndProration
from tallyman.domain.subscription import Subscription, SubscriptionStatus, start
from tallyman.domain.subscription_change import (
    EditTiming,
    Timing,
    cancel,
    change,
    unschedule_cancelation,
)
from tallyman.errors import InvalidInput, SubscriptionNotChangeable

MONTH = Duration(1)
TOKENS = RateCard("tokens", "Tokens", UnitPrice(D(1)), FeatureReference("f", "tokens"), MONTH)
SEAT = RateCard("seat", "Seat", FlatPrice(D(30)), None, MONTH, PaymentTerm.IN_ADVANCE)
SETUP = RateCard("setup", "Setup", FlatPrice(D(99)), None, None, PaymentTerm.IN_ADVANCE)
YEARLY = RateCard("audit", "Audit", FlatPrice(D(9)), None, Duration(12))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plan_of(*phases: PlanPhase, key: str = "starter", cadence: str = "P1M", **rest: Any) -> Plan:
    now = at("2026-01-01")
    step = parse_duration(cadence)
    plan = Plan(f"plan-{key}", "default", key, 1, key, "USD", step, phases, now, now)
    return replace(plan, **rest)


def phase_of(*cards: RateCard, key: str = "all", duration: str | None = None) -> PlanPhase:
    return PlanPhase(key, key, cards, parse_duration(duration) if duration else None)


def subscribe(plan: Plan, begin: str, anchor: str | None = None) -> Subscription:
    return start(
        plan,
        subscription_id="sub",
        customer_id="acme",
        at=at(begin),
        created_at=at(begin),
        billing_anchor=at(anchor) if anchor else None,
    )


def summary(billables: list[Billable]) -> list[tuple[str, str, str, str, str]]:
    """(rate card, service from, service to, due, share) with times as short as they go."""
    return [
        (
            b.rate_card.key,
            _short(b.service_period.from_),
            _short(b.service_period.to),
            _short(b.invoice_at),
            str(b.share),
        )
        for b in billables
    ]


def _short(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat().removesuffix("T00:00:00")


def test_phases_follow_one_another_without_drift() -> None:
    plan = plan_of(
        phase_of(SEAT, key="a", duration="P1M"),
        phase_of(SEAT, key="b", duration="P1M"),
        phase_of(SEAT, key="c"),
    )

    phases = subscribe(plan, "2026-01-31").phases

    assert [(p.key, p.active_from, p.active_to) for p in phases] == [
        ("a", at("2026-01-31"), at("2026-02-28")),
        ("b", at("2026-02-28"), at("2026-03-31")),
        ("c", at("2026-03-31"), None),
    ]


DUE = [
    pytest.param(
        subscribe(plan_of(phase_of(TOKENS)), "2026-01-31T10:00:00.123"),
        "2026-04-01",
        [
            (
                "tokens",
                "2026-01-31T10:00:00.123000",
                "2026-02-28T10:00:00.123000",
                "2026-02-28T10:00:00.123000",
                "1",
            ),
            (
                "tokens",
                "2026-02-28T10:00:00.123000",
                "2026-03-31T10:00:00.123000",
                "2026-03-31T10:00:00.123000",
                "1",
            ),
        ],
        id="usage is due as its period ends, and nothing before the start is served",
    ),
    pytest.param(
        subscribe(plan_of(phase_of(SEAT)), "2026-01-01"),
        "2026-02-01",
        [
            ("seat", "2026-01-01", "2026-02-01", "2026-01-01", "1"),
            ("seat", "2026-02-01", "2026-03-01", "2026-02-01", "1"),
        ],
        id="in advance is due as its period begins",
    ),
    pytest.param(
        subscribe(plan_of(phase_of(SEAT, TOKENS)), "2026-01-22", "2026-01-01"),
        "2026-02-01",
        [
            ("seat", "2026-01-22", "2026-02-01", "2026-01-22", "10/31"),
            ("seat", "2026-02-01", "2026-03-01", "2026-02-01", "1"),
            ("tokens", "2026-01-22", "2026-02-01", "2026-02-01", "10/31"),
        ],
        id="the first period is cut where the anchor is another day",
    ),
    pytest.param(
        subscribe(plan_of(phase_of(SEAT), pro_rating_enabled=False), "2026-01-22", "2026-01-01"),
        "2026-01-31",
        [("seat", "2026-01-22", "2026-02-01", "2026-01-22", "1")],
        id="without proration a part costs the whole",
    ),
    pytest.param(
        subscribe(plan_of(phase_of(SETUP, SEAT)), "2026-01-22", "2026-01-01"),
        "2026-01-31",
        [
            ("setup", "2026-01-22", "2026-02-01", "2026-01-22", "1"),
            ("seat", "2026-01-22", "2026-02-01", "2026-01-22", "10/31"),
        ],
        id="once is once, and never a part of it",
    ),
    pytest.param(
        subscribe(
            plan_of(phase_of(replace(SETUP, payment_term=PaymentTerm.IN_ARREARS))), "2026-01-01"
        ),
        "2036-01-01",
        [],
        id="once, at the end of what does not end, is never",
    ),
    pytest.param(
        subscribe(plan_of(phase_of(YEARLY)), "2026-01-01"),
        "2028-01-01",
        [
            ("audit", "2026-01-01", "2027-01-01", "2027-01-01", "1"),
            ("audit", "2027-01-01", "2028-01-01", "2028-01-01", "1"),
        ],
        id="a yearly price in a monthly plan",
    ),
    pytest.param(
        subscribe(plan_of(phase_of(TOKENS, SEAT), cadence="P3M"), "2026-01-01"),
        "2026-04-01T00:00:00",
        [
            ("seat", "2026-01-01", "2026-02-01", "2026-01-01", "1"),
            ("seat", "2026-02-01", "2026-03-01", "2026-01-01", "1"),
            ("seat", "2026-03-01", "2026-04-01", "2026-01-01", "1"),
            ("tokens", "2026-01-01", "2026-02-01", "2026-04-01", "1"),
            ("tokens", "2026-02-01", "2026-03-01", "2026-04-01", "1"),
            ("tokens", "2026-03-01", "2026-04-01", "2026-04-01", "1"),
            ("seat", "2026-04-01", "2026-05-01", "2026-04-01", "1"),
            ("seat", "2026-05-01", "2026-06-01", "2026-04-01", "1"),
            ("seat", "2026-06-01", "2026-07-01", "2026-04-01", "1"),
        ],
        id="monthly prices are invoiced by the quarter",
    ),
    pytest.param(
        subscribe(
            plan_of(phase_of(TOKENS, key="trial", duration="P10D"), phase_of(SEAT, key="paid")),
            "2026-01-01",
        ),
        "2026-02-01",
        [
            ("tokens", "2026-01-01", "2026-01-11", "2026-01-11", "10/31"),
            ("seat", "2026-01-11", "2026-02-01", "2026-01-11", "21/31"),
            ("seat", "2026-02-01", "2026-03-01", "2026-02-01", "1"),
        ],
        id="a phase that ends in mid-period is due then, and the next begins",
    ),
    pytest.param(
        replace(
            subscribe(plan_of(phase_of(SEAT, TOKENS)), "2026-01-01"),
            active_to=at("2026-01-16T12:00"),
        ),
        "2026-03-01",
        [
            ("seat", "2026-01-01", "2026-01-16T12:00:00", "2026-01-01", "1/2"),
            ("tokens", "2026-01-01", "2026-01-16T12:00:00", "2026-01-16T12:00:00", "1/2"),
        ],
        id="the end cuts the period, and usage is due at once",
    ),
]


@pytest.mark.parametrize(("subscription", "until", "expected"), DUE)
def test_what_is_due(
    subscription: Subscription, until: str, expected: list[tuple[str, str, str, str, str]]
) -> None:
    assert summary(due(subscription, at(until))) == expected


def test_the_last_period_is_billed_in_full_where_the_profile_says_so() -> None:
    ended = replace(
        subscribe(plan_of(phase_of(SEAT)), "2026-01-22", "2026-01-01"), active_to=at("2026-01-25")
    )

    [seat] = due(ended, at("2026-03-01"), end_proration=EndProration.BILL_FULL_PERIOD)

    assert seat.share == Fraction(10, 31)
    assert seat.service_period == Period(at("2026-01-22"), at("2026-01-25"))


def test_what_was_due_before_is_left_out() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT, TOKENS, YEARLY, SETUP)), "2026-01-31")

    for since, until in pairwise([at("2026-01-01") + timedelta(days=n) for n in range(0, 900, 13)]):
        expected = [b for b in due(subscription, until) if b.invoice_at > since]
        assert due(subscription, until, since) == expected


def test_what_is_being_served_is_there_for_the_preview() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT, TOKENS, YEARLY)), "2026-01-31")

    found = in_service(subscription, at("2026-03-30"))

    assert [(b.rate_card.key, b.service_period) for b in found] == [
        ("seat", Period(at("2026-02-28"), at("2026-03-31"))),
        ("tokens", Period(at("2026-02-28"), at("2026-03-31"))),
        ("audit", Period(at("2026-01-31"), at("2027-01-31"))),
    ]


def test_an_early_end_changes_the_period_and_not_the_id() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT)), "2026-01-01")
    [before] = due(subscription, at("2026-01-01"))
    [after] = due(cancel(subscription, EditTiming.IMMEDIATE, at("2026-01-16")), at("2026-01-01"))

    assert (before.id, before.share, after.share) == (after.id, Fraction(1), Fraction(15, 31))


STEPS = st.sampled_from(["P1D", "P1W", "P1M", "P3M", "P1Y"])
MOMENTS = st.timedeltas(timedelta(), timedelta(days=2000)).map(at("2024-01-01").__add__)


@given(STEPS, STEPS, MOMENTS, MOMENTS, st.booleans())
def test_service_periods_cover_the_time_without_gap_or_overlap(
    plan_step: str, step: str, begin: datetime, anchor: datetime, in_advance: bool
) -> None:
    card = replace(
        SEAT,
        billing_cadence=parse_duration(step),
        payment_term=PaymentTerm.IN_ADVANCE if in_advance else PaymentTerm.IN_ARREARS,
    )
    plan = plan_of(
        phase_of(card, key="a", duration="P40D"), phase_of(card, key="b"), cadence=plan_step
    )
    subscription = replace(
        subscribe(plan, begin.replace(tzinfo=None).isoformat()), billing_anchor=anchor
    )
    ended = replace(subscription, active_to=begin + timedelta(days=500))

    found = due(ended, at("2040-01-01"))
    periods = sorted((b.service_period for b in found), key=lambda period: period.from_)

    assert periods[0].from_ == subscription.active_from
    assert periods[-1].to == ended.active_to
    assert all(one.to == other.from_ for one, other in pairwise(periods))


@given(STEPS, STEPS, MOMENTS, MOMENTS, MOMENTS, st.none() | st.integers(1, 900))
def test_what_is_due_next_is_due_first_of_all_that_is_to_come(
    plan_step: str, step: str, begin: datetime, anchor: datetime, after: datetime, days: int | None
) -> None:
    cards = [replace(card, billing_cadence=parse_duration(step)) for card in (SEAT, TOKENS)]
    plan = plan_of(
        phase_of(*cards, key="a", duration="P40D"), phase_of(SETUP, key="b"), cadence=plan_step
    )
    subscription = replace(
        subscribe(plan, begin.replace(tzinfo=None).isoformat()),
        billing_anchor=anchor,
        active_to=None if days is None else begin + timedelta(days=days),
    )

    to_come = due(subscription, at("2040-01-01"), after)

    assert next_due(subscription, after) == min((b.invoice_at for b in to_come), default=None)


NOW = at("2026-01-16T09:30:00.123456")


@pytest.mark.parametrize(
    ("timing", "ends"),
    [
        pytest.param(
            EditTiming.IMMEDIATE, at("2026-01-16T09:30:00.123"), id="at once, to the millisecond"
        ),
        pytest.param(EditTiming.NEXT_BILLING_CYCLE, at("2026-02-01"), id="as the period ends"),
        pytest.param(at("2026-01-20"), at("2026-01-20"), id="at a time"),
    ],
)
def test_a_subscription_is_canceled(timing: Timing, ends: datetime) -> None:
    subscription = subscribe(plan_of(phase_of(SEAT)), "2026-01-01")

    canceled = cancel(subscription, timing, NOW)

    assert canceled == replace(subscription, active_to=ends, updated_at=NOW)
    assert canceled.status_at(ends) is SubscriptionStatus.INACTIVE


def test_a_subscription_goes_from_scheduled_to_inactive() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT)), "2026-01-10")
    canceled = cancel(subscription, EditTiming.NEXT_BILLING_CYCLE, NOW)

    assert subscription.status_at(at("2026-01-09")) is SubscriptionStatus.SCHEDULED
    assert subscription.status_at(at("2026-01-10")) is SubscriptionStatus.ACTIVE
    assert canceled.status_at(NOW) is SubscriptionStatus.CANCELED
    assert canceled.status_at(at("2026-02-10")) is SubscriptionStatus.INACTIVE


def test_a_cancelation_is_taken_back_as_if_it_had_not_been() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT)), "2026-01-01")
    canceled = cancel(subscription, EditTiming.NEXT_BILLING_CYCLE, NOW)

    assert unschedule_cancelation(canceled, NOW) == replace(subscription, updated_at=NOW)


def test_only_an_active_subscription_is_canceled_and_only_a_canceled_one_goes_on() -> None:
    scheduled = subscribe(plan_of(phase_of(SEAT)), "2026-02-01")
    active = subscribe(plan_of(phase_of(SEAT)), "2026-01-01")
    ended = cancel(active, EditTiming.IMMEDIATE, NOW)

    for subscription in (scheduled, ended):
        with pytest.raises(SubscriptionNotChangeable, match="not active"):
            cancel(subscription, EditTiming.IMMEDIATE, NOW)
    for subscription in (scheduled, active, ended):
        with pytest.raises(SubscriptionNotChangeable, match="not canceled"):
            unschedule_cancelation(subscription, NOW)


def test_nothing_is_canceled_in_the_past() -> None:
    with pytest.raises(InvalidInput) as caught:
        cancel(subscribe(plan_of(phase_of(SEAT)), "2026-01-01"), at("2026-01-02"), NOW)

    assert [p.field for p in caught.value.parameters] == ["timing"]


def test_a_change_of_plan_splits_the_period_and_keeps_the_billing_day() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT, TOKENS)), "2026-01-01")
    pro = plan_of(phase_of(replace(SEAT, price=FlatPrice(D(62)))), key="pro")

    current, following = change(
        subscription, pro, at("2026-01-11"), at("2026-01-05"), next_id="two"
    )

    assert summary(due(current, at("2026-02-01"))) == [
        ("seat", "2026-01-01", "2026-01-11", "2026-01-01", "10/31"),
        ("tokens", "2026-01-01", "2026-01-11", "2026-01-11", "10/31"),
    ]
    assert summary(due(following, at("2026-02-01"))) == [
        ("seat", "2026-01-11", "2026-02-01", "2026-01-11", "21/31"),
        ("seat", "2026-02-01", "2026-03-01", "2026-02-01", "1"),
    ]
    assert (following.plan_key, following.customer_id) == ("pro", "acme")


def test_the_current_period_is_the_one_that_is_served() -> None:
    subscription = subscribe(plan_of(phase_of(SEAT)), "2026-01-10", "2026-01-01")

    assert subscription.current_period_at(at("2026-01-09")) is None
    assert subscription.current_period_at(NOW) == Period(at("2026-01-10"), at("2026-02-01"))


def test_the_phase_in_force_is_found() -> None:
    plan = plan_of(phase_of(TOKENS, key="trial", duration="P10D"), phase_of(SEAT, key="paid"))
    subscription = cancel(subscribe(plan, "2026-01-01"), at("2026-01-20"), at("2026-01-05"))

    found = [subscription.phase_at(at(f"2026-01-{day:02}")) for day in (1, 10, 11, 19, 20)]

    assert [phase and phase.key for phase in found] == ["trial", "trial", "paid", "paid", None]


def test_an_id_comes_from_what_it_names() -> None:
    made = content_id(NOW, "acme", "tokens")

    assert made == content_id(NOW, "acme", "tokens")
    assert made != content_id(NOW, "acmet", "okens")
    assert made < content_id(NOW + timedelta(milliseconds=1), "acme", "tokens")
    assert len(made) == 26
