"""Our lines as Stripe takes them: exact amounts, and what each says within Stripe's bounds."""

from dataclasses import replace
from decimal import Decimal as D

import pytest
from tallyman.domain.money import to_minor_units
from tallyman.domain.price import UnitPrice
from tallyman.domain.stripe_amount import stripe_amount
from tallyman.errors import StripeRefused
from tallyman.payments.stripe_connection import mask_key, without_keys
from tallyman.payments.stripe_lines import MOST_CHARACTERS, lines_of, total_of

from tests.rigs.invoices import every_kind, forty_lines, invoice, line, long_names, usage


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        pytest.param("12.34", "USD", 1234, id="cents"),
        pytest.param("-0.05", "EUR", -5, id="a correction"),
        pytest.param("1234", "JPY", 1234, id="no minor unit"),
        pytest.param("5", "UGX", 500, id="hundredths, that ISO 4217 has not"),
        pytest.param("7", "ISK", 700, id="hundredths of ISK"),
        pytest.param("1.230", "KWD", 1230, id="thousandths in tens"),
        pytest.param("12.00", "MGA", 12, id="whole, where ISO 4217 has hundredths"),
        pytest.param("1.234", "KWD", None, id="a thousandth that cannot be paid"),
        pytest.param("12.34", "MGA", None, id="a hundredth that cannot be paid"),
        pytest.param("1.2345", "CLF", None, id="more decimals than Stripe knows"),
    ],
)
def test_an_amount_is_exact_or_refused(amount: str, currency: str, expected: int | None) -> None:
    if expected is not None:
        assert stripe_amount(D(amount), currency) == expected
        return
    with pytest.raises(StripeRefused, match="no unit that small"):
        stripe_amount(D(amount), currency)


def test_every_kind_of_line_is_one_line_of_the_same_amount() -> None:
    made = invoice(every_kind())

    lines = lines_of(made)

    assert [one.key for one in lines] == [one.id for one in made.lines]
    assert [one.amount for one in lines] == [
        to_minor_units(one.totals.total, "USD") for one in made.lines
    ]
    assert sum(one.amount for one in lines) == total_of(made)


@pytest.mark.parametrize("made", [long_names(), forty_lines()], ids=["long names", "forty lines"])
def test_what_a_line_says_fits(made: object) -> None:
    assert all(0 < len(one.description) <= MOST_CHARACTERS for one in lines_of(made))  # type: ignore[arg-type]  # it is an invoice


def test_a_line_of_many_models_is_split_by_largest_remainder() -> None:
    used = usage(*((f"a-model-with-a-name-{at}", "request", 333_333 + at) for at in range(60)))
    made = invoice([line("Tokens", UnitPrice(D("0.0000017")), used)])

    lines = lines_of(made)

    assert len(lines) > 3
    assert sum(one.amount for one in lines) == total_of(made)
    assert len({one.key for one in lines}) == len(lines)
    assert all(len(one.description) <= MOST_CHARACTERS for one in lines)
    said = "; ".join(one.description for one in lines)
    assert all(f"a-model-with-a-name-{at} · request" in said for at in range(60))
    assert f"(1 of {len(lines)})" in lines[0].description


def test_a_correction_of_many_models_is_one_line() -> None:
    names = [f"a-model-with-a-name-{at}" for at in range(60)]
    before = usage(*((name, "request", 1_000_000) for name in names))
    after = usage(*((name, "request", 900_000 + 5_000 * at) for at, name in enumerate(names)))
    corrected = line("Tokens", UnitPrice(D("0.00001")), before, later=after)

    [made] = lines_of(invoice([corrected]))

    assert made.amount == to_minor_units(corrected.totals.total, "USD")
    assert made.description.endswith("…")


def test_a_correction_names_its_price_only_where_it_comes_to_the_amount() -> None:
    before, after = (usage(("gpt-4o", "request", tokens)) for tokens in (2_000_000, 1_000_000))
    corrected = line("Tokens", UnitPrice(D("0.000003")), before, later=after)
    of_another_price = replace(corrected, totals=replace(corrected.totals, total=D("-2.33")))

    assert [one.description.partition(";")[0] for one in lines_of(invoice([corrected]))] == [
        "Tokens: correction: -1,000,000 tokens at $0.000003 per token = $3.00 per million tokens"
    ]
    assert [one.description.partition(";")[0] for one in lines_of(invoice([of_another_price]))] == [
        "Tokens: correction: -1,000,000 tokens"
    ]


def test_a_key_is_masked_wherever_it_may_be() -> None:
    assert mask_key("sk_live_abcdefgh9876") == "sk_live_…9876"
    assert without_keys("Invalid API Key provided: sk_test_****cdef (rk_live_abcdefgh)") == (
        "Invalid API Key provided: sk_… (rk_…)"
    )


def test_credit_is_a_line_of_its_own_below_what_the_lines_cost() -> None:
    [costs, other] = [
        line("Tokens", UnitPrice(D("0.001")), usage(("gpt-4o", "request", 15_000)), key=key)
        for key in ("a", "b")
    ]
    paid = replace(
        costs,
        totals=replace(costs.totals, credits=D("12.50"), total=costs.totals.total - D("12.50")),
    )

    made = lines_of(invoice([paid, other]))

    assert [one.amount for one in made] == [1500, 1500, -1250]
    assert (made[-1].key, made[-1].description) == ("credits", "Paid by credit")
    assert sum(one.amount for one in made) == total_of(invoice([paid, other])) == 1750
    assert "credit" not in made[0].description
