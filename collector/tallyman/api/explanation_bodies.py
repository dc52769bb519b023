"""The body of an explained invoice line on the wire, which the command reads too.

How it is filled is `explanation_answers.py`'s.
"""

from typing import Any

import msgspec


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
