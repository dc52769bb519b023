"""Fills the body of an explained invoice line with what was found behind it.

The body is `explanation_bodies.py`'s, and what is behind a line `billing/explain.py`'s.
"""

from collections import defaultdict
from decimal import Decimal

from tallyman.api.explanation_bodies import (
    ExplainedAmount,
    ExplainedCheck,
    ExplainedEarlier,
    ExplainedEvent,
    ExplainedEvents,
    ExplainedEventsMeta,
    ExplainedHour,
    ExplainedInvoice,
    ExplainedLine,
    ExplainedQuantity,
    ExplainedSource,
    ExplainedSplit,
    ExplainedTier,
    InvoiceLinesAnswer,
    LineChecked,
    LineUsageAnswer,
    PeriodAnswer,
)
from tallyman.api.wire import write_time
from tallyman.billing.explain import Earlier, Explanation
from tallyman.domain.counted_event import CountedEvent, HourCounted
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import total, written
from tallyman.domain.period import Period
from tallyman.domain.plan_document import write_rate_card


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
