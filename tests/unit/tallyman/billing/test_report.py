"""A preview's rows: whose rate is for what."""

from dataclasses import replace
from decimal import Decimal as D

import pytest
from tallyman.billing.report import line_rows, preview_answer
from tallyman.domain.burn_down import Draw
from tallyman.domain.credit import CreditGrant
from tallyman.domain.invoice_credit import credited
from tallyman.domain.price import FlatPrice, Price, UnitConfig, UnitPrice

from tests.rigs import invoices, sold


@pytest.mark.parametrize(
    ("price", "config", "expected"),
    [
        pytest.param(UnitPrice(D("0.000002")), None, ("0.000002", "token", "2"), id="per token"),
        pytest.param(
            UnitPrice(D("3")), invoices.MILLION, ("3", "million tokens", ""), id="per million"
        ),
        pytest.param(
            UnitPrice(D("0.1")), invoices.PACKS, ("0.1", "pack of 1,000", ""), id="in packages"
        ),
        pytest.param(
            UnitPrice(D("0.000001")),
            invoices.COST_PLUS,
            ("0.000001", "billed token", "1.2"),
            id="cost plus",
        ),
        pytest.param(invoices.FREE_TIER, None, ("", "", ""), id="tiers have no one rate"),
    ],
)
def test_a_row_says_what_its_rate_is_for_and_the_rate_of_a_million_tokens(
    price: Price, config: UnitConfig | None, expected: tuple[str, str, str]
) -> None:
    used = invoices.usage(("gpt-4o", "request", 20_000))
    [row] = line_rows(invoices.line("Tokens", price, used, unit_config=config))

    assert (row.rate, row.per, row.rate_per_million) == expected


def test_a_fee_is_for_a_period() -> None:
    [row] = line_rows(invoices.line("Fee", FlatPrice(D("20"))))

    assert (row.quantity, row.rate, row.per, row.rate_per_million) == ("", "20", "period", "")


def test_a_preview_says_what_credit_pays_and_its_rows_add_up_to_the_total() -> None:
    whose = sold.customer("acme")
    made = sold.draft(whose, sold.subscription(whose, sold.card("tokens")), 5_000_000)
    draw = Draw("g", made.lines[0].id, D("4.50"))
    grant = CreditGrant(
        "g", "default", whose.id, "USD", D(5), "Gift", made.created_at, made.created_at,
        made.created_at,
    )  # fmt: skip
    shown = preview_answer(replace(made, lines=credited(made.lines, [draw], {"g": grant})))

    assert [(row.name, row.amount) for row in shown.rows] == [("Tokens", "10"), ("Credit", "-4.5")]
    assert shown.total == "5.5"
