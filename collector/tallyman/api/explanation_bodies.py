"""The body of an explained invoice line on the wire, which the command reads too.

What is behind a line is `billing/explain.py`'s.
"""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import msgspec

from tallyman.api.wire import write_time
from tallyman.billing.explain import Earlier, Explanation
from tallyman.domain.counted_event import CountedEvent, HourCounted
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import total, written
from tallyman.domain.period import Period
from tallyman.domain.plan_document import write_rate_card


class PeriodAnswer(msgspec.Struct, rename={"from_": "from"}):
    """From, inclusive, to, exclusive."""

    from_: str
    to: str


class ExplainedTier(msgspec.Struct, omit_defaults=True):
    """A tier that the quantity reached, and what of it falls into the tier."""

    number: int
    quantity: str
    up_to: str | None = None
    unit_price: str | None = None
    flat_price: str | None = None


class ExplainedAmount(msgspec.Struct, omit_defaults=True):
    """`quantity` × `unit_price` less discounts is `exact`; `amount` is its share of the line."""

    name: str
    category: str
    quantity: str
    unit_price: str
    exact: str
    amount: str
    discounts: dict[str, str] = {}


class ExplainedQuantity(msgspec.Struct, omit_defaults=True):
    """What was used, and what of it is priced: raw, less the discount, converted."""

    raw: str
    discounted: str
    invoiced: str
    meter: str
    events: int
    calls: int
    estimated_tokens: str
    waived_tokens: str


class ExplainedSplit(msgspec.Struct):
    """A part of the quantity, by the dimensions that it is shown by."""

    dimensions: dict[str, str]
    quantity: str


class ExplainedSource(msgspec.Struct, omit_defaults=True):
    """How numbers were obtained: provider, estimated, none, or empty where an event does not say."""

    usage_source: str
    events: int
    quantity: str | None = None


class ExplainedHour(msgspec.Struct, omit_defaults=True):
    """An hour (UTC) with events. `sources` adds up to it."""

    from_: str = msgspec.field(name="from")
    to: str
    events: int
    sources: list[ExplainedSource]
    quantity: str | None = None


class ExplainedEvent(msgspec.Struct, omit_defaults=True):
    """An event as it counted, after so many changes (`revision`).

    One with `taken_back` had counted before, and counts no more, or not like this.
    """

    id: str
    source: str
    subject: str
    time: str
    stored_at: str
    value: str
    quantity: str | None = None
    request_id: str | None = None
    type: str | None = None
    model: str | None = None
    provider: str | None = None
    usage_source: str | None = None
    waived_tokens: int = 0
    revision: int = 0
    taken_back: bool = False


class ExplainedEventsMeta(msgspec.Struct):
    """`next` is the cursor of the page that follows, null on the last one."""

    size: int
    next: str | None


class ExplainedEvents(msgspec.Struct):
    """One page of the events, the oldest first."""

    data: list[ExplainedEvent]
    page: ExplainedEventsMeta


class ExplainedEarlier(msgspec.Struct):
    """A line that a correction is taken from."""

    invoice: str
    line_id: str
    watermark: str
    quantity: str
    total: str


class ExplainedInvoice(msgspec.Struct):
    """The invoice. What was stored after the watermark is not on it."""

    id: str
    number: str
    customer: str
    currency: str
    status: str
    watermark: str | None


class ExplainedLine(msgspec.Struct, omit_defaults=True):
    """The line, and what it costs, of which `credits` paid so much; `let_off` is what credit notes had
    let off before a correction, which it does not give back again."""

    id: str
    name: str
    service_period: PeriodAnswer
    plan: str
    total: str
    corrects: str | None = None
    credits: str | None = None
    let_off: str | None = None


class ExplainedCheck(msgspec.Struct):
    """Whether what is listed is the line: counted, summed up and rated again."""

    ok: bool
    problems: list[str]


class LineUsageAnswer(msgspec.Struct, omit_defaults=True):
    """An invoice line from its amount to its events.

    Of a correction, hours and events are the difference to what was counted before, `earlier` what
    had been billed, and `whole` what the period comes to now. Hours and events have no quantity where
    values do not add up, as in a maximum.
    """

    invoice: ExplainedInvoice
    line: ExplainedLine
    rate_card: dict[str, Any]
    check: ExplainedCheck
    amounts: list[ExplainedAmount]
    tiers: list[ExplainedTier]
    events: ExplainedEvents
    quantity: ExplainedQuantity | None = None
    whole: str | None = None
    earlier: list[ExplainedEarlier] = []
    split: list[ExplainedSplit] = []
    sources: list[ExplainedSource] = []
    hours: list[ExplainedHour] = []


class LineChecked(msgspec.Struct, omit_defaults=True):
    """A line in short."""

    line: ExplainedLine
    check: ExplainedCheck
    quantity: ExplainedQuantity | None = None


class InvoiceLinesAnswer(msgspec.Struct):
    """The lines of an invoice, each counted again."""

    invoice: ExplainedInvoice
    lines: list[LineChecked]


def lines_answer(explained: tuple[Invoice, list[Explanation]]) -> InvoiceLinesAnswer:
    """The lines on the wire."""
    invoice, found = explained
    return InvoiceLinesAnswer(
        _invoice(invoice), [LineChecked(_line(x.line), _check(x), _quantity(x)) for x in found]
    )


def explanation_answer(found: Explanation, size: int) -> LineUsageAnswer:
    """The explanation on the wire."""
    line, invoice = found.line, found.invoice
    windows = () if line.usage is None else line.usage.windows
    by_source: dict[str, list[HourCounted]] = defaultdict(list)
    by_hour: dict[Period, list[HourCounted]] = defaultdict(list)
    for one in found.hours:
        by_source[one.usage_source].append(one)
        by_hour[one.period].append(one)
    return LineUsageAnswer(
        invoice=_invoice(invoice),
        line=_line(line),
        rate_card=write_rate_card(line.rate_card),
        check=_check(found),
        amounts=_amounts(line),
        tiers=[
            ExplainedTier(
                tier.number,
                written(tier.quantity),
                _written(tier.up_to),
                _written(tier.unit_price),
                _written(tier.flat_price),
            )
            for tier in line.tiers
        ],
        events=ExplainedEvents(
            [_event(one) for one in found.events.events],
            ExplainedEventsMeta(size, found.events.next),
        ),
        quantity=_quantity(found),
        whole=None if found.whole is None else written(found.whole.quantity),
        earlier=[_earlier(one) for one in found.earlier],
        split=[ExplainedSplit(dict(one.dimensions), written(one.quantity)) for one in windows],
        sources=[_source(name, some) for name, some in sorted(by_source.items())],
        hours=[_hour(period, some) for period, some in by_hour.items()],
    )


def _invoice(invoice: Invoice) -> ExplainedInvoice:
    return ExplainedInvoice(
        invoice.id,
        invoice.number,
        invoice.customer.key,
        invoice.currency,
        invoice.state.status,
        None if invoice.watermark is None else write_time(invoice.watermark),
    )


def _line(line: InvoiceLine) -> ExplainedLine:
    return ExplainedLine(
        line.id,
        line.name,
        _period(line.service_period),
        f"{line.plan_key} {line.plan_version}",
        written(line.totals.total),
        line.corrects,
        written(line.totals.credits) if line.totals.credits else None,
        written(line.let_off) if line.let_off else None,
    )


def _check(found: Explanation) -> ExplainedCheck:
    return ExplainedCheck(not found.problems, list(found.problems))


def _amounts(line: InvoiceLine) -> list[ExplainedAmount]:
    return [
        ExplainedAmount(
            one.name,
            str(one.category),
            written(one.quantity),
            written(one.unit_price),
            written(one.total),
            written(share),
            {str(off.reason): written(off.amount) for off in one.discounts},
        )
        for one, share in zip(line.detailed_lines, line.detailed_totals, strict=True)
    ]


def _quantity(found: Explanation) -> ExplainedQuantity | None:
    line, usage = found.line, found.line.usage
    if found.counted is None or usage is None:
        return None
    return ExplainedQuantity(
        raw=written(usage.quantity if line.raw_quantity is None else line.raw_quantity),
        discounted=written(line.discounted_quantity),
        invoiced=written(line.invoiced_quantity or Decimal(0)),
        meter=found.counted.metered.meter.key,
        events=usage.events,
        calls=usage.calls,
        estimated_tokens=written(usage.estimated_tokens),
        waived_tokens=written(usage.waived_tokens),
    )


def _earlier(one: Earlier) -> ExplainedEarlier:
    watermark = one.invoice.watermark
    return ExplainedEarlier(
        one.invoice.number,
        one.line.id,
        "" if watermark is None else write_time(watermark),
        written(one.line.raw_quantity or Decimal(0)),
        written(one.line.totals.total),
    )


def _hour(period: Period, some: list[HourCounted]) -> ExplainedHour:
    return ExplainedHour(
        write_time(period.from_),
        write_time(period.to),
        sum(one.events for one in some),
        [_source(one.usage_source, [one]) for one in some],
        _sum(some),
    )


def _source(name: str, some: list[HourCounted]) -> ExplainedSource:
    return ExplainedSource(name, sum(one.events for one in some), _sum(some))


def _sum(some: list[HourCounted]) -> str | None:
    quantities = [one.quantity for one in some if one.quantity is not None]
    return written(total(quantities)) if len(quantities) == len(some) else None


def _event(one: CountedEvent) -> ExplainedEvent:
    return ExplainedEvent(
        id=one.id,
        source=one.source,
        subject=one.subject,
        time=write_time(one.time),
        stored_at=write_time(one.stored_at),
        value=one.value,
        quantity=_written(one.quantity),
        request_id=one.request_id,
        type=one.token_type or None,
        model=one.model or None,
        provider=one.provider or None,
        usage_source=one.usage_source or None,
        waived_tokens=one.waived_tokens,
        revision=one.revision,
        taken_back=one.is_taken_back,
    )


def _period(period: Period) -> PeriodAnswer:
    return PeriodAnswer(write_time(period.from_), write_time(period.to))


def _written(number: Decimal | None) -> str | None:
    return None if number is None else written(number)
