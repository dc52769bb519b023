"""Credit notes never take back more than a line has, in any currency."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.billable import due
from tallyman.domain.credit_note import Balance, Credit, Creditable, check_amount, goodwill
from tallyman.domain.invoice_line import InvoiceLine, Totals, line_for
from tallyman.domain.line_correction import still_owed
from tallyman.domain.money import minor_units, total
from tallyman.errors import InvalidInput

from tests.rigs import sold

AT = datetime(2026, 12, 1, tzinfo=UTC)
CURRENCIES = st.sampled_from(["JPY", "USD", "KWD"])


def line_of(amount: D, currency: str = "USD", id_: str = "line") -> InvoiceLine:
    acme = sold.customer("acme")
    subscription = sold.subscription(acme, sold.card("tokens"), currency=currency)
    [billable] = [one for one in due(subscription, AT) if one.needs_usage][:1]
    made = line_for(subscription, billable, sold.usage(1))
    return replace(made, id=id_, totals=Totals(amount=amount, total=amount))


@st.composite
def credits(draw: st.DrawFn) -> tuple[InvoiceLine, list[D | None], D]:
    """A line, the amounts that are asked back of it, some finer than the currency, and corrections."""
    currency = draw(CURRENCIES)
    places = minor_units(currency)
    line = line_of(draw(st.decimals(0, 1000, places=places)), currency)
    asked = st.none() | st.decimals(0, 700, places=places) | st.decimals(0, 9, places=4)
    corrected = draw(st.decimals(-1000, 1000, places=places))
    return line, draw(st.lists(asked, max_size=8)), max(corrected, -line.totals.total)


@given(credits())
def test_notes_together_never_exceed_the_line(given: tuple[InvoiceLine, list[D | None], D]) -> None:
    line, asked, corrected = given
    billed = line.totals.total + corrected
    taken: list[D] = []
    for amount in asked:
        left = Creditable(line, total(taken), billed, total(taken)).left
        standing = {line.id: Creditable(line, total(taken), billed, total(taken))}
        try:
            [made] = goodwill([Credit(line.id, amount)], standing)
        except InvalidInput:
            fits = amount is not None and 0 < amount <= left
            whole = amount is not None and amount == round(amount, minor_units(line.currency))
            assert not (fits and whole)
            continue
        taken.append(made.amount)

    assert all(one > 0 for one in taken)
    assert total(taken) <= min(line.totals.total, billed)


@given(
    st.lists(st.tuples(st.decimals(0, 100, places=2), st.decimals(0, 100, places=2)), max_size=8)
)
def test_corrections_never_give_back_what_was_let_off(steps: list[tuple[D, D]]) -> None:
    """Usage goes up and down, and amounts are let off between: what was billed never is below that."""
    invoiced = [line_of(D(50), id_="first")]
    let_off = D(0)
    for whole, wanted in steps:
        billed = total(line.totals.total for line in invoiced)
        let_off += min(wanted, Creditable(invoiced[0], let_off, billed, let_off).left)
        owed, _ = still_owed(whole, invoiced, let_off)
        invoiced.append(line_of(owed, id_="more"))

        billed = total(line.totals.total for line in invoiced)
        assert billed == max(whole, let_off)


@pytest.mark.parametrize(
    ("amount", "left", "rule"),
    [
        pytest.param(D(0), D(1), "min", id="nothing"),
        pytest.param(D(-1), D(1), "min", id="less than nothing"),
        pytest.param(D("0.001"), D(1), "invalid", id="finer than cents"),
        pytest.param(D("1.01"), D(1), "max", id="more than is left"),
        pytest.param(D(0), D(0), "max", id="nothing of nothing"),
    ],
)
def test_what_cannot_be_taken_back_is_refused(amount: D, left: D, rule: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_amount("lines[0].amount", amount, left, "USD")

    [parameter] = refused.value.parameters
    assert (parameter.field, parameter.rule) == ("lines[0].amount", rule)


def test_a_line_is_named_once_and_is_the_invoices_own() -> None:
    lines = {"line": Creditable(line_of(D(5)), D(0), D(5), D(0))}

    with pytest.raises(InvalidInput, match="is named twice"):
        goodwill([Credit("line", D(1)), Credit("line", D(1))], lines)
    with pytest.raises(InvalidInput, match=r"lines\[0\].line_id is no line"):
        goodwill([Credit("other")], lines)


@pytest.mark.parametrize(
    ("paid", "before", "after", "refunded", "expected"),
    [
        pytest.param(False, D(0), D(0), D(0), (D(10), D(10), D(0)), id="unpaid"),
        pytest.param(False, D(4), D(0), D(0), (D(6), D(6), D(0)), id="less is due"),
        pytest.param(True, D(4), D(0), D(0), (D(0), D(6), D(6)), id="what was paid comes back"),
        pytest.param(True, D(4), D(5), D(2), (D(0), D(1), D(4)), id="and what is back already"),
    ],
)
def test_what_is_due_creditable_and_refundable(
    paid: bool, before: D, after: D, refunded: D, expected: tuple[D, D, D]
) -> None:
    acme = sold.customer("acme")
    invoice = sold.draft(acme, sold.subscription(acme, sold.card("tokens")))
    invoice = replace(invoice, lines=(line_of(D(10)),), paid_at=AT if paid else None)

    balance = Balance(invoice, before, after, refunded)

    assert (balance.due, balance.creditable, balance.refundable) == expected
