"""Rating, for any price and any quantity: what must hold whatever the numbers are."""

from datetime import UTC, datetime
from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.duration import Duration
from tallyman.domain.money import round_to_currency, total
from tallyman.domain.period import Period
from tallyman.domain.price import (
    Commitments,
    Discounts,
    GraduatedPrice,
    Operation,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rating.rate import rate
from tallyman.domain.usage import Usage, UsageWindow, usage_of

AMOUNTS = st.decimals(0, 1000, places=9)
QUANTITIES = st.decimals(0, 10**12, places=3)
PERIOD = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


@st.composite
def tiers(draw: st.DrawFn) -> tuple[PriceTier, ...]:
    bounds = sorted(draw(st.sets(st.decimals(D("0.001"), 10**12, places=3), max_size=5)))
    return tuple(
        PriceTier(bound, draw(AMOUNTS), draw(st.none() | AMOUNTS)) for bound in [*bounds, None]
    )


GRADUATED = st.builds(GraduatedPrice, tiers())
PRICES = st.builds(UnitPrice, AMOUNTS) | GRADUATED | st.builds(VolumePrice, tiers())
COMMITMENTS = st.tuples(st.none() | AMOUNTS, st.none() | AMOUNTS).map(
    lambda pair: Commitments(pair[0], None if None in pair else max(pair, key=lambda a: a or D(0)))
)
CARDS = st.builds(
    RateCard,
    key=st.just("tokens"),
    name=st.just("Tokens"),
    price=PRICES,
    billing_cadence=st.just(Duration(1)),
    unit_config=st.none()
    | st.builds(
        UnitConfig,
        st.sampled_from(Operation),
        st.decimals(D("0.001"), 10**6, places=3),
        st.sampled_from(Rounding),
        st.integers(0, 6),
    ),
    commitments=COMMITMENTS,
    discounts=st.builds(
        Discounts, st.none() | st.decimals(0, 100, places=2), st.none() | QUANTITIES
    ),
)


def card_of(price: UnitPrice | GraduatedPrice | VolumePrice) -> RateCard:
    return RateCard("tokens", "Tokens", price, billing_cadence=Duration(1))


def cost(card: RateCard, quantity: D) -> D:
    return rate(card, Usage(quantity)).total


@given(CARDS, QUANTITIES)
def test_nothing_is_ever_owed_to_the_customer(card: RateCard, quantity: D) -> None:
    rating = rate(card, Usage(quantity))

    assert all(line.total >= 0 and line.quantity >= 0 for line in rating.lines)
    assert rating.total >= 0


@given(GRADUATED | st.builds(UnitPrice, AMOUNTS), QUANTITIES, QUANTITIES)
def test_more_never_costs_less(price: GraduatedPrice | UnitPrice, a: D, b: D) -> None:
    less, more = sorted((a, b))

    assert cost(card_of(price), less) <= cost(card_of(price), more)


# A volume price may be lower for all units once a tier is reached: that is its point.
@given(CARDS.filter(lambda card: not isinstance(card.price, VolumePrice)), QUANTITIES, QUANTITIES)
def test_more_never_costs_less_with_adjustments(card: RateCard, a: D, b: D) -> None:
    less, more = sorted((a, b))

    assert cost(card, less) <= cost(card, more)


@given(GRADUATED, QUANTITIES)
def test_graduated_is_what_the_parts_say(price: GraduatedPrice, quantity: D) -> None:
    expected, floor = D(0), D(0)
    for number, tier in enumerate(price.tiers):
        if number and quantity <= floor:
            break
        units = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - floor
        expected = total([expected, units * (tier.unit_price or 0), tier.flat_price or D(0)])
        floor += units

    assert cost(card_of(price), quantity) == expected


@given(GRADUATED, QUANTITIES, QUANTITIES)
def test_graduated_of_a_sum_is_the_first_part_and_what_the_second_adds(
    price: GraduatedPrice, first: D, second: D
) -> None:
    """What comes on top is priced by the tiers that it falls into, wherever the first part ended."""
    whole = rate(card_of(price), Usage(first + second))
    part = rate(card_of(price), Usage(first))

    by_reference = {line.reference: line for line in whole.lines}
    assert all(line.amount <= by_reference[line.reference].amount for line in part.lines)
    assert total([line.quantity for line in whole.lines if "usage" in line.reference]) == (
        first + second
    )


@given(CARDS, QUANTITIES)
def test_the_maximum_is_the_most_and_the_minimum_the_least(card: RateCard, quantity: D) -> None:
    owed = cost(card, quantity)

    assert card.commitments.maximum_amount is None or owed <= card.commitments.maximum_amount
    assert card.commitments.minimum_amount is None or owed >= card.commitments.minimum_amount


@given(
    CARDS,
    st.lists(QUANTITIES, min_size=1, max_size=8).flatmap(
        lambda quantities: st.tuples(st.just(quantities), st.permutations(quantities))
    ),
)
def test_the_order_of_arrival_does_not_matter(
    card: RateCard, orders: tuple[list[D], list[D]]
) -> None:
    one, other = (
        rate(card, usage_of([UsageWindow(PERIOD, quantity) for quantity in order]))
        for order in orders
    )

    assert one == other


@given(CARDS, QUANTITIES, st.sampled_from(["JPY", "USD", "KWD"]))
def test_a_line_is_rounded_once(card: RateCard, quantity: D, currency: str) -> None:
    exact = cost(card, quantity)
    rounded = round_to_currency(exact, currency)

    half = {"JPY": D("0.5"), "USD": D("0.005"), "KWD": D("0.0005")}[currency]
    assert abs(rounded - exact) <= half
