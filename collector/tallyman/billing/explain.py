"""An invoice line taken apart: from its amount to the events, as they were known at the watermark.

It changes nothing, and says where what it lists is not the line. How events are listed is the store's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallyman.billing.books import Books
from tallyman.billing.recount import counted_at
from tallyman.domain.counted_event import Count, CountedPage, HourCounted
from tallyman.domain.counting import subject_periods
from tallyman.domain.credit_note import CreditKind, as_invoice
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.line_correction import still_owed
from tallyman.domain.money import round_to_currency, total, written
from tallyman.domain.price import FlatPrice, FreePrice
from tallyman.domain.rating.rate import rate
from tallyman.domain.usage import Usage, usage_difference
from tallyman.errors import NotFound, RatingError
from tallyman.store.usage_sql import ADDITIVE, Question

NO_EVENTS = CountedPage((), None)


@dataclass(frozen=True)
class Earlier:
    """A line of the same thing on an invoice, or a credit note, before: a correction is taken from it."""

    invoice: Invoice
    line: InvoiceLine


@dataclass(frozen=True)
class Explanation:
    """A line with what it is made of. `counted` is None where nothing is counted: a flat price.

    `earlier` is what a correction corrects, the first line first; its hours and events are the
    difference. `whole` is what the period comes to now. `problems` say what does not add up; without
    any, what is listed is the line.
    """

    invoice: Invoice
    line: InvoiceLine
    earlier: tuple[Earlier, ...]
    counted: Count | None
    whole: Usage | None
    hours: tuple[HourCounted, ...]
    events: CountedPage
    problems: tuple[str, ...]

    @property
    def is_next(self) -> bool:
        """Whether each line before it still counts: it is what is new since the last of them."""
        versions = [*(one.line.version for one in self.earlier), self.line.version]
        return versions == list(range(1, len(versions) + 1))

    @property
    def adds_up(self) -> bool:
        """Whether hours and events sum up to the quantity; a maximum of them does not.

        Nor do they where one before was voided to be billed again, and a later one stands.
        """
        if not self.is_next:
            return False
        return self.counted is None or self.counted.metered.meter.aggregation in ADDITIVE


async def explain(
    books: Books,
    namespace: str,
    invoice_id: str,
    line_id: str,
    *,
    size: int = 20,
    after: str | None = None,
) -> Explanation:
    """The line of the invoice, by id or number, with one page of its events.

    Raises:
        NotFound: there is no such invoice or line, or it was not counted yet.
        InvalidInput: `after` is no cursor.
    """
    invoice = await _document(books, namespace, invoice_id)
    line = next((one for one in invoice.lines if one.id == line_id), None)
    if line is None:
        raise NotFound(f"invoice {invoice.number} has no line with the id {line_id}")
    found, before = await _taken_apart(books, invoice, line)
    if found.counted is None or not _has_events(found.counted, before):
        return found
    return replace(found, events=await books.counted.page(found.counted, before, size, after))


async def explain_all(
    books: Books, namespace: str, invoice_id: str
) -> tuple[Invoice, list[Explanation]]:
    """The invoice, by id or number, and each of its lines, without events.

    Raises:
        NotFound: there is no such invoice, or it was not counted yet.
    """
    invoice = await _document(books, namespace, invoice_id)
    found = [await _taken_apart(books, invoice, line) for line in invoice.lines]
    return invoice, [explanation for explanation, _ in found]


async def _taken_apart(
    books: Books, invoice: Invoice, line: InvoiceLine
) -> tuple[Explanation, Count | None]:
    """The line without its events, and what was counted before where it corrects."""
    earlier = await _earlier(books, invoice, line) if line.corrects else ()
    bare = Explanation(invoice, line, earlier, None, None, (), NO_EVENTS, ())
    if isinstance(line.rate_card.price, FlatPrice | FreePrice) and line.usage is None:
        return replace(bare, problems=_priced_wrong(line, None, earlier)), None
    count = count_of(invoice, line, earlier)
    if count is None:
        raise NotFound(f"the line {line.id} of invoice {invoice.number} was not counted yet")
    before = None
    if earlier:
        before = count_of(earlier[-1].invoice, earlier[-1].line, earlier)
    question = Question(count.metered, line.service_period, count.parts)
    [whole] = await books.quantities.count([question], count.watermark)
    listed = _has_events(count, before)
    hours = tuple(await books.counted.hours(count, before)) if listed else ()
    found = replace(bare, counted=count, whole=whole, hours=hours)
    problems = (*_counted_wrong(found), *_priced_wrong(line, whole, earlier))
    return replace(found, problems=problems), before


def _has_events(count: Count, before: Count | None) -> bool:
    return bool(count.parts or (before is not None and before.parts))


def count_of(invoice: Invoice, line: InvoiceLine, others: Sequence[Earlier] = ()) -> Count | None:
    """What was counted for a line; None if nothing was, and of no subject where nothing is served.

    What a correction was counted by may be kept with the invoices that it corrects.
    """
    feature = line.rate_card.feature
    if feature is None or invoice.counting is None or invoice.watermark is None:
        return None
    kept = [invoice.counting, *(one.invoice.counting for one in others if one.invoice.counting)]
    metered = next((x.metered[feature.id] for x in kept if feature.id in x.metered), None)
    if metered is None:
        return None
    parts = subject_periods(invoice.counting.spans, line.service_period) if line.share else ()
    return Count(metered, tuple(parts), invoice.watermark)


async def _earlier(books: Books, invoice: Invoice, line: InvoiceLine) -> tuple[Earlier, ...]:
    found = await books.billed.before(invoice.customer.id, [line], counted_at(invoice))
    before = found.get(line.id, ())
    documents = {
        id_: await _document(books, invoice.namespace, id_)
        for id_ in {one.invoice_id for one in before}
    }
    return tuple(Earlier(documents[one.invoice_id], one.line) for one in before)


async def _document(books: Books, namespace: str, id_: str) -> Invoice:
    """The invoice of an id or number, or the credit note as one.

    Raises:
        NotFound: there is none.
    """
    try:
        return await books.invoices.get(namespace, id_)
    except NotFound as err:
        try:
            note = await books.credit_notes.get(namespace, id_)
        except NotFound:
            raise err from None
    if note.kind is CreditKind.GOODWILL:
        raise NotFound(f"{note.number} lets amounts off: nothing was counted for it")
    return as_invoice(note, await books.invoices.get(namespace, note.invoice_id))


def _counted_wrong(found: Explanation) -> list[str]:
    """Where hours or events are not the quantity of the line."""
    line, whole = found.line, found.whole
    if whole is None:
        return []
    used = usage_difference(whole, [one.line.usage for one in found.earlier])
    problems = []
    said = line.raw_quantity
    if said is None and line.usage is not None:  # it could not be rated
        said = line.usage.quantity
    if found.adds_up:
        listed = total(one.quantity for one in found.hours if one.quantity is not None)
        if listed != said:
            problems.append(f"the events sum up to {listed}, and the line says {_said(said)}")
    if used.quantity != said:
        counted = written(used.quantity)
        problems.append(f"counted again it is {counted}, and the line says {_said(said)}")
    events = sum(one.events for one in found.hours)
    if found.is_next and line.usage is not None and events != line.usage.events:
        problems.append(f"there are {events} events, and the line says {line.usage.events}")
    return problems


def _priced_wrong(
    line: InvoiceLine, whole: Usage | None, earlier: Sequence[Earlier]
) -> tuple[str, ...]:
    """Where the amount is not what the price makes of the quantity."""
    problems = []
    owed = line.totals.before_credits
    detailed = round_to_currency(total(one.total for one in line.detailed_lines), line.currency)
    if detailed != owed:
        problems.append(f"the detailed lines sum up to {detailed}, not to {owed}")
    paid = total(one.amount for one in line.credits_applied)
    if paid != line.totals.credits:
        problems.append(f"credit paid {paid}, and the line says {line.totals.credits}")
    try:
        again = round_to_currency(rate(line.rate_card, whole, line.share).total, line.currency)
    except RatingError as err:
        return (*problems, f"it cannot be rated: {err}")
    if line.corrects:
        again, _ = still_owed(
            max(again, line.forgiven), [one.line for one in earlier], line.let_off
        )
    if again != owed:
        problems.append(f"rated again it is {written(again)}, and the line says {owed}")
    return tuple(problems)


def _said(quantity: Decimal | None) -> str:
    return "nothing" if quantity is None else written(quantity)
