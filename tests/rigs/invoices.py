"""Invoices to be looked at, made by the domain's own rating."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

from tallyman.domain.billable import due
from tallyman.domain.billing_profile import Supplier, Workflow
from tallyman.domain.content_id import content_id
from tallyman.domain.customer import Address, Customer
from tallyman.domain.duration import Duration
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine, line_for
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.line_correction import correction_for
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    GraduatedPrice,
    Operation,
    Price,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard
from tallyman.domain.subscription import start
from tallyman.domain.usage import Usage, UsageWindow

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
NOVEMBER = Period(BEGIN, END)
MILLION = UnitConfig(Operation.DIVIDE, D(1_000_000), display_unit="million tokens")
PACKS = UnitConfig(Operation.DIVIDE, D(1000), Rounding.CEILING, display_unit="pack of 1,000")
COST_PLUS = UnitConfig(Operation.MULTIPLY, D("1.2"))
FREE_TIER = GraduatedPrice((PriceTier(D(10_000), D(0)), PriceTier(None, D("0.000002"))))
VOLUME = VolumePrice((PriceTier(D(1_000_000), D("0.000003")), PriceTier(None, D("0.000002"), D(5))))


def usage(*parts: tuple[str, str, int], unit: str = "token", **behind: Any) -> Usage:
    """Tokens by model and type."""
    windows = tuple(
        UsageWindow(NOVEMBER, D(quantity), (("model", model), ("type", kind)))
        for model, kind, quantity in parts
    )
    quantity = sum((window.quantity for window in windows), D(0))
    counts: dict[str, Any] = {"events": 12, "calls": 6, "estimated_tokens": D(40)} | behind
    return Usage(quantity, windows, unit=unit, **counts)


WALKTHROUGH = usage(
    ("gpt-4o", "request", 9_000),
    ("gpt-4o", "response", 5_000),
    ("gpt-4o-mini", "response", 1_000),
    waived_tokens=D(7),
)


def line(
    name: str, price: Price, used: Usage | None = None, currency: str = "USD", **rest: Any
) -> InvoiceLine:
    """What one rate card of the plan Starter, version 3, costs in November."""
    later = rest.pop("later", None)
    card = RateCard(
        rest.pop("key", "tokens"),
        name,
        price,
        FeatureReference("f", "tokens"),
        Duration(1),
        PaymentTerm.IN_ADVANCE if isinstance(price, FlatPrice) else PaymentTerm.IN_ARREARS,
        **rest,
    )
    phases = (PlanPhase("all", "All", (card,)),)
    plan = Plan(
        "p1", "default", "starter", 3, "Starter", currency, Duration(1), phases, BEGIN, BEGIN
    )
    subscription = start(
        plan,
        subscription_id=content_id(BEGIN, "subscription"),
        customer_id=content_id(BEGIN, "customer"),
        at=BEGIN,
        created_at=BEGIN,
    )
    billable = due(subscription, END)[0]
    made = line_for(subscription, billable, used)
    if later is None:
        return made
    corrected = correction_for(subscription, billable, [made], later)
    assert corrected is not None
    return corrected


def every_kind() -> tuple[InvoiceLine, ...]:
    """One line of every price, adjustment and correction."""
    return (
        line("Base fee", FlatPrice(D(20)), key="base"),
        line("AI tokens", UnitPrice(D("0.000002")), WALKTHROUGH),
        line("Tokens, first 10,000 free", FREE_TIER, WALKTHROUGH, key="graduated"),
        line(
            "Tokens by volume",
            VOLUME,
            usage(("claude-sonnet-4-5", "request", 2_500_000)),
            key="volume",
        ),
        line("Tokens per million", UnitPrice(D(3)), WALKTHROUGH, unit_config=MILLION, key="m"),
        line("Packages", UnitPrice(D("0.05")), WALKTHROUGH, unit_config=PACKS, key="packs"),
        line(
            "At cost, plus 20 %",
            UnitPrice(D("0.000001")),
            WALKTHROUGH,
            unit_config=COST_PLUS,
            key="cost",
        ),
        line(
            "With discounts",
            UnitPrice(D("0.01")),
            WALKTHROUGH,
            discounts=Discounts(D(10), D(5000)),
            commitments=Commitments(maximum_amount=D(50)),
            key="off",
        ),
        line(
            "With a minimum",
            UnitPrice(D("0.000002")),
            WALKTHROUGH,
            commitments=Commitments(minimum_amount=D(5)),
            key="least",
        ),
        line(
            "Calls",
            UnitPrice(D("0.001")),
            usage(("gpt-4o", "request", 6), unit="call"),
            key="calls",
        ),
        line(
            "Late tokens",
            UnitPrice(D("0.0001")),
            WALKTHROUGH,
            later=usage(
                ("gpt-4o", "request", 9_500),
                ("gpt-4o", "response", 5_000),
                ("gpt-4o-mini", "response", 1_000),
                events=14,
                calls=7,
                waived_tokens=D(7),
            ),
            key="late",
        ),
    )


ACME = Customer(
    content_id(BEGIN, "customer"),
    "default",
    "acme-corp",
    "Acme Corp",
    BEGIN,
    BEGIN,
    subject_keys=("acme-corp", "acme-labs"),
    primary_email="billing@acme.test",
    billing_address=Address("GB", "EC1A 1BB", None, "London", "1 Main Street"),
)
SUPPLIER = Supplier(
    "Gateway Ltd",
    tax_code="GB123456789",
    billing_address=Address("IE", "D02", None, "Dublin", "2 Quay"),
)


def invoice(lines: Sequence[InvoiceLine], **rest: Any) -> Invoice:
    """An issued invoice of November."""
    made = Invoice(
        id=content_id(END, "invoice"),
        namespace="default",
        number="INV-000042",
        currency=lines[0].currency if lines else "USD",
        customer=ACME,
        supplier=SUPPLIER,
        workflow=Workflow(),
        state=InvoiceState.PAYMENT_PENDING,
        service_period=NOVEMBER,
        created_at=END,
        updated_at=END + timedelta(hours=1),
        lines=tuple(lines),
        watermark=END + timedelta(hours=1),
        issued_at=END + timedelta(hours=1),
        due_at=END + timedelta(days=30, hours=1),
    )
    return replace(made, **rest)


def long_names() -> Invoice:
    """Names that are long, not Latin, or markup."""
    customer = replace(
        ACME,
        name="株式会社ゾーイ・トークン計測サービス Zoë & <b>Sons</b> " + "Overlong" * 12,
        subject_keys=tuple(f"team-{number}-with-a-name" for number in range(9)),
    )
    name = "Jetons d’entrée & de sortie <script>alert(1)</script> für Großkunden: " + "x" * 90
    lines = (
        line(name, UnitPrice(D("0.0000000123")), WALKTHROUGH),
        line("トークン使用量", FREE_TIER, WALKTHROUGH, key="cjk"),
    )
    return invoice(lines, customer=customer, description="Τιμολόγιο · счёт · 청구서 " * 4)


def forty_lines() -> Invoice:
    """More than a page."""
    return invoice(
        [
            line(
                f"Model {number}",
                UnitPrice(D("0.000002") * number),
                usage(
                    (f"model-{number}", "request", number * 91_234),
                    (f"model-{number}", "response", number * 7_001),
                ),
                key=f"k{number}",
            )
            for number in range(1, 41)
        ]
    )
