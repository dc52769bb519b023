"""Invoices of what is due, and their lines: usage as it is known at a watermark, rated.

It keeps nothing: see `run.py`. It does not move invoices: see `advance.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tallyman.billing.books import Account, Books
from tallyman.billing.gather import Gathered, Owed
from tallyman.domain.counting import Counting, Metered, subject_periods
from tallyman.domain.customer import SubjectSpan
from tallyman.domain.invoice import Invoice, ValidationIssue, invoice_id, issues_of
from tallyman.domain.invoice_line import InvoiceLine, blank_line, rated
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import Period
from tallyman.domain.price import FreePrice
from tallyman.domain.rate_card import RateCard
from tallyman.domain.usage import Usage
from tallyman.errors import RatingError
from tallyman.store.invoice_numbers import draft_number
from tallyman.store.usage_sql import Question

Unrated = tuple[InvoiceLine, ValidationIssue | None]


@dataclass(frozen=True)
class Counted:
    """Usage as it was known at the watermark, by billable, and what it was counted by."""

    watermark: datetime
    usage: Mapping[str, Usage]
    metered: Mapping[str, Metered]

    def counting(self, account: Account, lines: Iterable[InvoiceLine]) -> Counting:
        """What the invoice of these lines keeps, to be counted again by."""
        ids = {line.rate_card.feature.id for line in lines if line.rate_card.feature}
        return Counting(
            account.spans, {id_: self.metered[id_] for id_ in sorted(ids) if id_ in self.metered}
        )


async def count(books: Books, owed: Sequence[tuple[Account, Owed]], watermark: datetime) -> Counted:
    """The usage behind each billable that needs any, of many accounts at once."""
    wanted = [(account, one) for account, one in owed if one.billable.needs_usage]
    metered: dict[str, Metered] = {}
    for namespace in {account.customer.namespace for account, _ in wanted}:
        ids = {
            feature.id
            for account, one in wanted
            if account.customer.namespace == namespace
            and (feature := one.billable.rate_card.feature) is not None
        }
        metered |= await books.metered(namespace, ids)
    asked: list[tuple[str, Question]] = []
    for account, one in wanted:
        card, period = one.billable.rate_card, one.billable.service_period
        question = question_of(account.spans, card, period, metered)
        if question is not None:
            asked.append((one.billable.id, question))
    usages = await books.quantities.count([question for _, question in asked], watermark)
    by_billable = {id_: usage for (id_, _), usage in zip(asked, usages, strict=True)}
    return Counted(watermark, by_billable, metered)


def question_of(
    spans: tuple[SubjectSpan, ...],
    card: RateCard,
    period: Period,
    metered: Mapping[str, Metered],
) -> Question | None:
    """What is asked for a rate card in a period; None if nothing counts for its feature."""
    feature = card.feature
    if feature is None or feature.id not in metered:
        return None
    return Question(metered[feature.id], period, tuple(subject_periods(spans, period)))


def drafted(gathered: Gathered, version: int, now: datetime) -> Invoice:
    """An invoice that is only just gathered: no lines yet, and everything else as it is now.

    Late events are waited for only where events count.
    """
    account, at = gathered.account, gathered.invoice_at
    waits = any(one.billable.needs_usage for one in gathered.owed)
    wait = account.profile.workflow.collection_interval
    period = _spanning(one.billable.service_period for one in gathered.owed)
    blank = empty(account, gathered.currency, at, period, version, now)
    return replace(blank, collection_at=wait.after(at) if waits else at)


def empty(
    account: Account,
    currency: str,
    at: datetime,
    period: Period,
    version: int,
    now: datetime,
) -> Invoice:
    """An invoice of nothing yet, which waits for nothing."""
    id_ = invoice_id(account.customer.id, currency, at, version)
    return Invoice(
        id=id_,
        namespace=account.customer.namespace,
        number=draft_number(id_),
        currency=currency,
        customer=account.customer,
        supplier=account.profile.supplier,
        workflow=account.profile.workflow,
        state=InvoiceState.GATHERING,
        service_period=period,
        created_at=now,
        updated_at=now,
        collection_at=at,
        billing_profile_id=account.profile.id,
        app=account.profile.app,
        invoice_at=at,
        version=version,
    )


def with_lines(
    invoice: Invoice,
    account: Account,
    owed: Sequence[Owed],
    counted: Counted,
    corrections: Sequence[InvoiceLine] = (),
    not_corrected: Sequence[ValidationIssue] = (),
) -> Invoice:
    """The invoice with its lines rated anew; what cannot be rated is an issue that stops it."""
    rated = [rated_line(one, counted) for one in owed]
    lines = (*(line for line, _ in rated), *corrections)
    issues = [
        replace(issue, field=f"lines[{at}].{issue.field}")
        for at, (_, issue) in enumerate(rated)
        if issue is not None
    ]
    period = invoice.service_period
    made = replace(
        invoice,
        lines=lines,
        service_period=_spanning(x.service_period for x in lines) if lines else period,
        watermark=counted.watermark,
        counting=counted.counting(account, lines),
    )
    return replace(made, validation_issues=(*issues, *not_corrected, *issues_of(made)))


def rated_line(one: Owed, counted: Counted) -> Unrated:
    """The line of a billable, and what is wrong with it; one that cannot be rated costs nothing."""
    card = one.billable.rate_card
    usage = counted.usage.get(one.billable.id)
    line = blank_line(one.subscription, one.billable)
    try:
        if one.billable.needs_usage and usage is None:
            raise nothing_counts(card)
        return rated(line, usage), None
    except RatingError as err:
        return unrated(line, usage), ValidationIssue(err.code, str(err), field="rate_card")


def nothing_counts(card: RateCard) -> RatingError:
    """There is no usage to rate the card by."""
    return RatingError(
        f"nothing counts for {card.key}: its feature has no meter", "rate_card_feature_not_found"
    )


def unrated(line: InvoiceLine, usage: Usage | None) -> InvoiceLine:
    """A line that cannot be rated: it costs nothing, and shows what was used."""
    free = replace(line, rate_card=replace(line.rate_card, price=FreePrice()))
    return replace(rated(free), rate_card=line.rate_card, usage=usage)


def _spanning(periods: Iterable[Period]) -> Period:
    every = list(periods)
    return Period(min(one.from_ for one in every), max(one.to for one in every))
