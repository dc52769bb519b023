"""Rated again by any other price, the difference makes it what it should have been, and once."""

from dataclasses import replace
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.billable import Billable, due
from tallyman.domain.invoice_line import line_for
from tallyman.domain.line_correction import correction_for
from tallyman.domain.money import minor_units, total
from tallyman.domain.price import FlatPrice, FreePrice, PriceTier, UnitPrice, VolumePrice
from tallyman.domain.rate_card import FeatureReference, RateCard
from tallyman.domain.re_rating import repriced
from tallyman.domain.subscription import Subscription
from tallyman.errors import InvalidInput

from tests.rigs import sold
from tests.unit.tallyman.domain.test_rating_properties import CARDS, QUANTITIES

CURRENCIES = st.sampled_from(["JPY", "USD", "KWD"])


def billed(card: RateCard, currency: str) -> tuple[Subscription, Billable]:
    acme = sold.customer("acme")
    counted = replace(card, feature=FeatureReference("feature", card.key))
    subscription = sold.subscription(acme, counted, currency=currency)
    [billable] = due(subscription, sold.NOVEMBER.to)
    return subscription, billable


@given(CARDS, CARDS, QUANTITIES, CURRENCIES)
def test_the_difference_makes_it_the_new_price_and_a_second_time_nothing(
    wrong: RateCard, right: RateCard, quantity: D, currency: str
) -> None:
    subscription, billable = billed(wrong, currency)
    usage = sold.usage(str(quantity))
    first = line_for(subscription, billable, usage)
    mended = replace(billable, rate_card=replace(right, feature=billable.rate_card.feature))

    line = correction_for(subscription, mended, [first], usage)

    every = [first] if line is None else [first, line]
    should = line_for(subscription, mended, usage).totals.total
    owed = total(one.totals.total for one in every)
    assert owed == should == round(owed, minor_units(currency))
    assert correction_for(subscription, mended, every, usage) is None


def test_only_the_price_changes_and_what_belongs_to_it() -> None:
    card = sold.card("tokens")
    by = replace(sold.card("other", price=UnitPrice(D(2))), name="Other")

    assert repriced(card, by) == replace(card, price=UnitPrice(D(2)))


@pytest.mark.parametrize(
    "price",
    [
        pytest.param(FlatPrice(D(5)), id="flat"),
        pytest.param(FreePrice(), id="free"),
        pytest.param(UnitPrice(D(-1)), id="negative"),
        pytest.param(VolumePrice((PriceTier(D(1), D(1)),)), id="tiers that end"),
    ],
)
def test_a_price_that_the_card_cannot_have_is_refused(
    price: FlatPrice | FreePrice | UnitPrice | VolumePrice,
) -> None:
    card = sold.card("tokens")

    with pytest.raises(InvalidInput):
        repriced(card, replace(card, price=price))
