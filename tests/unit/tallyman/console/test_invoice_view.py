"""An invoice says how every amount comes about."""

from dataclasses import replace
from decimal import Decimal as D

import pytest
from tallyman.console.invoice_line_view import LineView, Row
from tallyman.console.invoice_view import Party, view_of
from tallyman.domain.billing_profile import Supplier
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.price import Commitments, Discounts, FlatPrice, UnitPrice

from tests.rigs.invoices import (
    COST_PLUS,
    FREE_TIER,
    MILLION,
    PACKS,
    VOLUME,
    WALKTHROUGH,
    every_kind,
    invoice,
    line,
    long_names,
    usage,
)

BEHIND = "From 6 calls, 12 events; 40 tokens estimated; 7 tokens waived and not charged."


def only(*made: LineView) -> LineView:
    assert len(made) == 1
    return made[0]


def test_the_walkthrough_line_has_both_rates_and_its_models() -> None:
    shown = only(
        *view_of(invoice([line("AI tokens", UnitPrice(D("0.000002")), WALKTHROUGH)])).lines
    )

    assert shown == LineView(
        name="AI tokens",
        period="1 – 30 November 2026",
        quantity="15,000 tokens",
        rates=("$0.000002 per token", "$2.00 per million tokens"),
        amount="$0.03",
        notes=(BEHIND,),
        used=(
            Row("gpt-4o · request", "9,000 tokens", amount="$0.02"),
            Row("gpt-4o · response", "5,000 tokens", amount="$0.01"),
            Row("gpt-4o-mini · response", "1,000 tokens", amount="$0.00"),
        ),
    )


def test_tiers_say_what_fell_into_each() -> None:
    shown = only(*view_of(invoice([line("Tokens", FREE_TIER, WALKTHROUGH)])).lines)

    assert (shown.rates, shown.priced) == (
        ("graduated tiers",),
        (
            Row(
                "Tier 1: up to 10,000",
                "10,000 tokens",
                ("$0.00 per token", "$0.00 per million tokens"),
                "$0.00",
            ),
            Row(
                "Tier 2: above 10,000",
                "5,000 tokens",
                ("$0.000002 per token", "$2.00 per million tokens"),
                "$0.01",
            ),
        ),
    )


def test_a_volume_tier_shows_its_flat_price() -> None:
    shown = only(
        *view_of(invoice([line("Tokens", VOLUME, usage(("m", "request", 2_500_000)))])).lines
    )

    assert [(row.label, row.amount) for row in shown.priced] == [
        ("Tier 2: above 1,000,000", "$5.00"),
        ("Tier 2: above 1,000,000, flat", "$5.00"),
    ]


@pytest.mark.parametrize(
    ("config", "amount", "rates", "billed"),
    [
        pytest.param(
            MILLION,
            "3",
            ("$3.00 per million tokens", "$0.000003 per token"),
            "0.015 × million tokens",
            id="per million",
        ),
        pytest.param(PACKS, "0.05", ("$0.05 per pack of 1,000",), "15 × pack of 1,000", id="packs"),
        pytest.param(
            COST_PLUS,
            "0.000001",
            (
                "$0.000001 per billed token",
                "$0.0000012 per token",
                "$1.20 per million tokens",
            ),
            "18,000 × billed token",
            id="cost plus",
        ),
    ],
)
def test_a_converted_quantity_has_the_rate_of_both_units(
    config: object, amount: str, rates: tuple[str, ...], billed: str
) -> None:
    made = line("Tokens", UnitPrice(D(amount)), WALKTHROUGH, unit_config=config)

    shown = only(*view_of(invoice([made])).lines)

    assert (shown.rates, shown.priced) == (rates, (Row("Billed quantity", billed),))


def test_discounts_and_the_maximum_add_up_to_the_amount() -> None:
    made = line(
        "Tokens",
        UnitPrice(D("0.01")),
        WALKTHROUGH,
        discounts=Discounts(D(10), D(5000)),
        commitments=Commitments(maximum_amount=D(50)),
    )

    shown = view_of(invoice([made]))

    assert only(*shown.lines).priced == (
        Row("Not charged: usage discount", "-5,000 tokens"),
        Row("Usage", "10,000 tokens", amount="$100.00"),
        Row("10 % off", amount="-$10.00"),
        Row("Above the maximum spend of $50.00", amount="-$40.00"),
    )
    assert shown.totals == (
        ("Subtotal", "$100.00"),
        ("Discounts", "-$50.00"),
        ("Total", "$50.00"),
    )


def test_a_minimum_shows_what_is_missing_to_it() -> None:
    made = line(
        "Tokens",
        UnitPrice(D("0.000002")),
        WALKTHROUGH,
        commitments=Commitments(minimum_amount=D(5)),
    )

    shown = view_of(invoice([made]))

    assert only(*shown.lines).priced[-1] == Row("Up to the minimum spend", amount="$4.97")
    assert shown.totals == (("Subtotal", "$0.03"), ("Minimum spend", "$4.97"), ("Total", "$5.00"))


def test_a_correction_says_what_it_corrects() -> None:
    late = every_kind()[-1]

    shown = only(*view_of(invoice([late]), {str(late.corrects): "INV-000041"}).lines)

    assert shown.is_correction
    assert shown.quantity == "500 tokens"
    assert shown.notes == (
        f"Corrects line {late.corrects} of invoice INV-000041: the difference to what is known "
        "now, after that invoice was final.",
        "From 1 call, 2 events.",
    )


def test_a_flat_price_has_no_quantity() -> None:
    shown = only(*view_of(invoice([line("Base fee", FlatPrice(D(20)))])).lines)

    assert (shown.quantity, shown.rates, shown.amount) == ("", ("flat",), "$20.00")


@pytest.mark.parametrize(
    ("currency", "price", "total"),
    [
        pytest.param("JPY", "0.0002", "¥3", id="no decimals"),
        pytest.param("KWD", "0.000002", "KWD\N{NO-BREAK SPACE}0.030", id="three decimals"),
    ],
)
def test_the_total_has_the_decimals_of_its_currency(currency: str, price: str, total: str) -> None:
    made = line("Tokens", UnitPrice(D(price)), WALKTHROUGH, currency)

    assert view_of(invoice([made])).total == total


def test_the_shares_of_the_models_add_up_to_the_amount() -> None:
    made = line("Tokens", UnitPrice(D("0.0000023")), WALKTHROUGH)

    shown = only(*view_of(invoice([made])).lines)

    shares = [D(row.amount.removeprefix("$")) for row in shown.used]
    assert sum(shares) == D(shown.amount.removeprefix("$"))


def test_the_parties_have_their_addresses() -> None:
    assert view_of(invoice(())).parties == (
        Party("From", "Gateway Ltd", ("2 Quay", "D02 Dublin", "Ireland", "Tax id GB123456789")),
        Party(
            "Billed to",
            "Acme Corp",
            (
                "1 Main Street",
                "EC1A 1BB London",
                "United Kingdom",
                "billing@acme.test",
                "Usage of acme-corp, acme-labs",
            ),
        ),
    )


def test_a_supplier_without_a_name_is_left_out() -> None:
    assert [p.role for p in view_of(invoice((), supplier=Supplier())).parties] == ["Billed to"]


def test_many_subjects_are_counted() -> None:
    assert view_of(long_names()).parties[1].lines[-1].endswith("team-4-with-a-name and 4 more")


@pytest.mark.parametrize(
    ("state", "title", "status", "notice"),
    [
        pytest.param(
            InvoiceState.GATHERING, "Preview", "Preview", "This is a preview", id="preview"
        ),
        pytest.param(
            InvoiceState.DRAFT_INVALID, "Invoice INV-000042", "Draft", "This is a draft", id="draft"
        ),
        pytest.param(InvoiceState.PAID, "Invoice INV-000042", "Paid", "", id="paid"),
        pytest.param(
            InvoiceState.VOIDED, "Invoice INV-000042", "Void", "This invoice is void", id="void"
        ),
    ],
)
def test_what_is_not_owed_says_so(
    state: InvoiceState, title: str, status: str, notice: str
) -> None:
    shown = view_of(replace(invoice(()), state=state))

    assert (shown.title, shown.status) == (title, status)
    assert shown.notice.startswith(notice)
    assert bool(shown.notice) == bool(notice)


def test_every_state_has_a_status_for_people() -> None:
    raw = {state.status for state in InvoiceState}

    assert not raw & {view_of(replace(invoice(()), state=state)).status for state in InvoiceState}
