"""Invoices: lines that explain themselves, totals that add up, corrections that say so."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.billable import Billable, due
from tallyman.domain.billing_profile import Supplier, Workflow
from tallyman.domain.customer import Customer
from tallyman.domain.duration import Duration
from tallyman.domain.invoice import Invoice, ValidationIssue, act, invoice_id, issues_of
from tallyman.domain.invoice_line import InvoiceLine, TierUsed, Totals, line_for, sum_totals
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.line_correction import correction_for
from tallyman.domain.money import round_to_currency, total
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    GraduatedPrice,
    Price,
    PriceTier,
    UnitPrice,
)
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard
from tallyman.domain.rating.detailed_line import DetailedLine
from tallyman.domain.subscription import Subscription, start
from tallyman.domain.subscription_change import cancel
from tallyman.domain.usage import Usage, UsageWindow, usage_of
from tallyman.errors import InvoiceActionNotAvailable

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
NOVEMBER = Period(BEGIN, END)
MODEL = (("model", "gpt-4o"),)
TIERS = GraduatedPrice((PriceTier(D(10_000), D(0)), PriceTier(None, D("0.000002"))))


def sold(price: Price, currency: str = "USD", **rest: Any) -> tuple[Subscription, Billable]:
    """A subscription to one rate card, and what is due for November."""
    in_advance = isinstance(price, FlatPrice)
    card = RateCard(
        "tokens",
        "Tokens",
        price,
        FeatureReference("f", "tokens"),
        Duration(1),
        PaymentTerm.IN_ADVANCE if in_advance else PaymentTerm.IN_ARREARS,
        **rest,
    )
    phases = (PlanPhase("all", "All", (card,)),)
    plan = Plan(
        "p1", "default", "starter", 3, "Starter", currency, Duration(1), phases, BEGIN, BEGIN
    )
    subscription = start(
        plan, subscription_id="sub", customer_id="acme", at=BEGIN, created_at=BEGIN
    )
    return subscription, due(subscription, END)[0]


def test_the_walkthrough_line_explains_itself() -> None:
    subscription, billable = sold(UnitPrice(D("0.000002")))
    usage = Usage(
        D(15_000),
        (UsageWindow(NOVEMBER, D(15_000), MODEL),),
        events=12,
        calls=6,
        estimated_tokens=D(40),
        waived_tokens=D(7),
    )

    line = line_for(subscription, billable, usage)

    assert line == InvoiceLine(
        id=line.id,
        billable_id=billable.id,
        name="Tokens",
        currency="USD",
        service_period=NOVEMBER,
        full_service_period=NOVEMBER,
        rate_card=billable.rate_card,
        totals=Totals(amount=D("0.03"), total=D("0.03")),
        detailed_lines=(
            DetailedLine(
                "usage", "Tokens: usage in period", D(15_000), D("0.000002"), D("0.03"), D("0.03")
            ),
        ),
        subscription_id="sub",
        phase_id=billable.phase_id,
        item_id=billable.item_id,
        plan_id="p1",
        plan_key="starter",
        plan_version=3,
        raw_quantity=D(15_000),
        invoiced_quantity=D(15_000),
        unit_price=D("0.000002"),
        usage=usage,
    )


@pytest.mark.parametrize(
    ("quantity", "tiers"),
    [
        pytest.param(0, (), id="nothing was used"),
        pytest.param(10_000, ((1, 10_000),), id="the free tier"),
        pytest.param(15_000, ((1, 10_000), (2, 5_000)), id="both tiers"),
    ],
)
def test_a_line_says_which_tiers_were_used(
    quantity: int, tiers: tuple[tuple[int, int], ...]
) -> None:
    line = line_for(*sold(TIERS), Usage(D(quantity)))

    prices = TIERS.tiers
    assert line.tiers == tuple(
        TierUsed(n, prices[n - 1].up_to, D(units), prices[n - 1].unit_price, None)
        for n, units in tiers
    )


def test_the_totals_of_a_line_add_up() -> None:
    priced = sold(UnitPrice(D("0.335")), discounts=Discounts(D(50)), commitments=Commitments(D(5)))

    line = line_for(*priced, Usage(D(3)))

    # 1.005 less 0.5025, and 4.4975 to the minimum
    assert line.totals == Totals(
        amount=D("1.00"), charges=D("4.50"), discounts=D("0.50"), total=D("5.00")
    )
    assert line.detailed_totals == (D("0.50"), D("4.50"))


AMOUNTS = st.decimals(0, 100, places=7)
QUANTITIES = st.decimals(0, 10**6, places=2)
PRICES = st.builds(UnitPrice, AMOUNTS) | st.builds(
    lambda a, b, c: GraduatedPrice((PriceTier(D(1000), a, c), PriceTier(None, b, a))),
    AMOUNTS,
    AMOUNTS,
    AMOUNTS,
)
ADJUSTED = st.tuples(
    PRICES,
    st.sampled_from(["JPY", "USD", "KWD"]),
    st.none() | st.decimals(0, 100, places=1),
    st.none() | AMOUNTS,
).map(
    lambda drawn: sold(
        drawn[0],
        drawn[1],
        discounts=Discounts(drawn[2]),
        commitments=Commitments(drawn[3], drawn[3] and drawn[3] * 2),
    )
)


@given(st.lists(st.tuples(ADJUSTED, QUANTITIES), max_size=5))
def test_the_sum_of_the_lines_is_the_total_to_the_minor_unit(
    sold_and_used: list[tuple[tuple[Subscription, Billable], D]],
) -> None:
    lines = [line_for(*priced, Usage(quantity)) for priced, quantity in sold_and_used]

    for line in lines:
        totals = line.totals
        assert totals.amount + totals.charges - totals.discounts == totals.total
        assert sum(line.detailed_totals) == totals.total
        for amount in (totals.amount, totals.total, *line.detailed_totals):
            assert amount == round_to_currency(amount, line.currency)
    assert sum_totals(lines).total == total(line.totals.total for line in lines)


@given(ADJUSTED, st.lists(QUANTITIES, min_size=2, max_size=5))
def test_an_invoice_and_its_corrections_are_what_is_owed_in_the_end(
    priced: tuple[Subscription, Billable], arrivals: list[D]
) -> None:
    """However late the events are, what was invoiced is what one invoice would have been."""
    lines = [line_for(*priced, Usage(arrivals[0]))]
    for known in range(2, len(arrivals) + 1):
        late = correction_for(*priced, lines, Usage(total(arrivals[:known])))
        lines += [late] if late is not None else []

    whole = line_for(*priced, Usage(total(arrivals)))
    assert sum_totals(lines).total == whole.totals.total
    assert total(line.raw_quantity or D(0) for line in lines) == whole.raw_quantity
    assert len({line.id for line in lines}) == len(lines)


def windows(*quantities: int) -> Sequence[UsageWindow]:
    days = [Period(BEGIN + timedelta(days=n), BEGIN + timedelta(days=n + 1)) for n in range(9)]
    return [
        UsageWindow(day, D(quantity), MODEL)
        for day, quantity in zip(days, quantities, strict=False)
    ]


def test_a_correction_says_what_it_corrects_and_by_how_much() -> None:
    priced = sold(UnitPrice(D("0.01")))
    first = line_for(*priced, replace(usage_of(windows(100, 50)), events=30))

    late = correction_for(*priced, [first], replace(usage_of(windows(100, 70)), events=33))

    assert late is not None
    assert (late.name, late.corrects, late.version) == ("Tokens: correction", first.id, 2)
    assert (late.raw_quantity, late.totals.total) == (D(20), D("0.20"))
    assert late.usage == Usage(D(20), (windows(0, 20)[1],), events=3)
    assert late.detailed_totals == (D("0.20"),)


def test_nothing_is_corrected_where_nothing_has_changed() -> None:
    priced = sold(UnitPrice(D("0.01")))

    assert correction_for(*priced, [line_for(*priced, Usage(D(5)))], Usage(D(5))) is None


def test_late_usage_below_a_cent_is_shown_though_it_costs_nothing() -> None:
    priced = sold(UnitPrice(D("0.000002")))

    late = correction_for(*priced, [line_for(*priced, Usage(D(5)))], Usage(D(6)))

    assert late is not None
    assert (late.raw_quantity, late.totals.total, late.detailed_lines) == (D(1), D("0.00"), ())


def test_what_was_paid_in_advance_comes_back_after_an_early_end() -> None:
    subscription, billable = sold(FlatPrice(D(30)))
    paid = line_for(subscription, billable)
    ended = cancel(subscription, datetime(2026, 11, 11, tzinfo=UTC), BEGIN + timedelta(days=1))
    [cut] = due(ended, END)

    back = correction_for(ended, cut, [paid])

    assert back is not None
    assert (paid.totals.total, back.totals.total) == (D("30.00"), D("-20.00"))
    assert back.detailed_totals == (D("-20.00"),)


def test_the_same_line_is_made_twice_with_the_same_id() -> None:
    priced = sold(UnitPrice(D(1)))

    assert line_for(*priced, Usage(D(1))) == line_for(*priced, Usage(D(1)))
    assert line_for(*priced, Usage(D(1))).id == line_for(*priced, Usage(D(2))).id


CUSTOMER = Customer("c1", "default", "acme", "Acme Corp", BEGIN, BEGIN, ("acme-corp",))


def draft(workflow: Workflow = Workflow(), *lines: InvoiceLine) -> Invoice:  # noqa: B008 - frozen
    return Invoice(
        id=invoice_id("c1", "USD", END),
        namespace="default",
        number="INV-1",
        currency="USD",
        customer=CUSTOMER,
        supplier=Supplier("Seller"),
        workflow=workflow,
        state=InvoiceState.GATHERING,
        service_period=NOVEMBER,
        created_at=END,
        updated_at=END,
        lines=lines,
    )


def advance(invoice: Invoice, now: datetime) -> Invoice:
    while Trigger.ADVANCE in invoice.available_actions_at(now):
        invoice = act(invoice, Trigger.ADVANCE, now)
    return invoice


def test_an_invoice_is_collected_reviewed_issued_and_paid_in_its_time() -> None:
    workflow = Workflow(draft_period=Duration(0, timedelta(days=3)))
    collected_at, issued_at = END + timedelta(hours=1), END + timedelta(days=3, hours=1)

    waiting = advance(draft(workflow), END)
    in_review = advance(waiting, collected_at)
    issued = advance(in_review, issued_at)
    paid = act(issued, Trigger.PAY, issued_at + timedelta(days=2))

    assert (waiting.state.value, waiting.collection_at) == (
        "draft.waiting_for_collection",
        collected_at,
    )
    assert (in_review.state.value, in_review.draft_until) == (
        "draft.waiting_auto_approval",
        issued_at,
    )
    assert (issued.state.value, issued.issued_at, issued.due_at) == (
        "payment_processing.pending",
        issued_at,
        issued_at + timedelta(days=30),
    )
    assert (paid.state.value, paid.paid_at) == ("paid", issued_at + timedelta(days=2))


def test_the_resulting_state_of_an_action_knows_the_draft_period() -> None:
    waiting = advance(draft(Workflow(draft_period=Duration(0, timedelta(days=3)))), END)

    assert waiting.available_actions_at(END) == {
        Trigger.SNAPSHOT_QUANTITIES: InvoiceState.DRAFT_WAITING_AUTO_APPROVAL,
        Trigger.DELETE: InvoiceState.DELETED,
    }


def test_an_issued_invoice_is_voided_and_not_deleted() -> None:
    issued = advance(draft(), END + timedelta(hours=1))

    with pytest.raises(InvoiceActionNotAvailable):
        act(issued, Trigger.DELETE, END)
    assert act(issued, Trigger.VOID, END).voided_at == END


def test_a_critical_issue_keeps_an_invoice_a_draft() -> None:
    line = line_for(*sold(UnitPrice(D(1)), "EUR"), Usage(D(1)))
    invoice = draft(Workflow(), line)

    wrong = replace(invoice, validation_issues=issues_of(invoice))

    assert wrong.validation_issues == (
        ValidationIssue(
            "invoice_line_currency_mismatch",
            "the line is in EUR and the invoice in USD",
            field="lines[0].currency",
        ),
    )
    assert advance(wrong, END + timedelta(days=9)).state is InvoiceState.DRAFT_VALIDATING


def test_two_runs_of_billing_name_an_invoice_alike() -> None:
    assert invoice_id("c1", "USD", END) == invoice_id("c1", "USD", END)
    assert len({invoice_id("c1", "USD", END, version) for version in (1, 2)}) == 2
