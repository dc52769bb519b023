"""What a month would have brought under a catalogue's file, by customer, against what it brought.

The file is put in force and taken back; what is billed is rated as billing does. Nothing is kept.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from aiohttp import web
from pydantic import Field

from tallyman.api.catalogue.apply import apply_catalogue
from tallyman.api.catalogue.entries import entries_of
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.catalogue.yaml_file import YamlFile, read_yaml
from tallyman.api.margins import MONTH, read_month
from tallyman.api.parameters import refuse_any
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Body
from tallyman.billing.books import Account, Books
from tallyman.billing.draft import count, rated_line
from tallyman.billing.gather import Owed
from tallyman.billing.margin import Asked, month_name, revenue
from tallyman.billing.margin_report import months_until
from tallyman.domain.billable import due
from tallyman.domain.event import LATEST
from tallyman.domain.margin import MarginBy, earned_of
from tallyman.domain.money import EXACT, round_to_currency, total
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan, PlanStatus
from tallyman.domain.subscription import Subscription, start

CUSTOMERS_AT_ONCE: Final = 2_000
# What begins in a month is due at most this long before or after it: a year's billing period.
_REACH: Final = timedelta(days=400)

Totals = dict[tuple[str, str], Decimal]  # by customer's id and currency


class BacktestRow(msgspec.Struct):
    """What a customer's month brought in one currency, and what it would have brought."""

    customer: str
    currency: str
    brought: str
    would_bring: str
    difference: str


class BacktestAnswer(msgspec.Struct):
    """Every customer whose month brought something, or would have; `issues` could not be rated."""

    month: str
    rows: list[BacktestRow]
    totals: list[BacktestRow]
    issues: list[str]


class BacktestRequest(Body):
    """A catalogue's file, what it is called in errors, and the month that it is tried on."""

    text: str
    month: Annotated[str, Field(json_schema_extra={"pattern": MONTH})]
    name: str = "catalog.yaml"


async def answer_backtest(request: web.Request) -> web.Response:
    """What the month would have brought."""
    refuse_any(request)
    body = await read_body(request, BacktestRequest)
    caller, books = request[CALLER], request.app[BOOKS]
    shelf = Shelf(books.database, caller.namespace, request[NOW], caller.actor)
    answer = await backtest(shelf, books, body.text, body.name, body.month)
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


async def backtest(shelf: Shelf, books: Books, text: str, name: str, month: str) -> BacktestAnswer:
    """The month by the plans of the file, for whoever was on a plan of the same key, or is moved.

    Raises:
        InvalidCatalogue: the file cannot be put in force; names the line and key.
        InvalidInput: it is no month.
    """
    [period] = months_until(read_month(month), 1)
    file = read_yaml(text, name)
    await shelf.meters.add_built_in(shelf.namespace)
    await books.profiles.default(shelf.namespace)  # made at its first use, and not to be lost
    await books.prices.add_built_in(shelf.namespace, shelf.now)
    asked = Asked(shelf.namespace, [period], MarginBy.CUSTOMER, shelf.now)
    brought: Totals = defaultdict(Decimal)
    for one in await revenue(books, asked):
        key = one.customer_id, one.currency
        brought[key] = EXACT.add(brought[key], one.amount)
    ids = await books.billed.customers(shelf.namespace)
    before = await books.accounts(shelf.namespace, ids)
    would: Totals = {}
    issues: list[str] = []
    try:
        async with shelf.database.together():
            await apply_catalogue(shelf, file)
            moved = await _as_if(shelf, books, file, before)
            for at in range(0, len(moved), CUSTOMERS_AT_ONCE):
                some = moved[at : at + CUSTOMERS_AT_ONCE]
                would |= await _rated(books, some, before, period, issues)
            raise _TakenBack
    except _TakenBack:
        pass
    return _answer(
        period, brought, would, {one.customer.id: one.customer.key for one in moved}, issues
    )


async def _as_if(
    shelf: Shelf, books: Books, file: YamlFile, before: Sequence[Account]
) -> list[Account]:
    """The accounts with each subscription on the plan that the file gives it, from its beginning."""
    found = entries_of(file)
    pinned = {
        entry.get("customer")
        for _, entry in found["subscriptions"]
        if isinstance(entry.get("plan"), Mapping)
    }
    newest = await _newest(shelf, {str(entry.get("key")) for _, entry in found["plans"]})
    after = {
        one.customer.id: one
        for one in await books.accounts(
            shelf.namespace, await books.billed.customers(shelf.namespace)
        )
    }
    known = {account.customer.id: account for account in before}
    plan_ids = {x.plan_id for one in after.values() for x in one.subscriptions}
    plans = await shelf.plans.by_ids(shelf.namespace, plan_ids)
    moved = []
    for customer_id, account in after.items():
        old = known[customer_id].subscriptions if customer_id in known else ()
        there = {one.id for one in old}
        begun = [one for one in account.subscriptions if one.id not in there]
        if not old:  # the file begins it, and may say since when
            moved.append(account)
            continue
        by_key = {} if account.customer.key in pinned else newest
        target = plans.get(begun[-1].plan_id) if begun else None
        theirs = tuple(_on_plan(one, target or by_key.get(one.plan_key)) for one in old)
        moved.append(replace(account, subscriptions=theirs))
    return moved


async def _newest(shelf: Shelf, keys: Collection[str]) -> dict[str, Plan]:
    """The newest published version of each plan that the file has."""
    counting = (PlanStatus.ACTIVE, PlanStatus.SCHEDULED)
    versions = [one for one in await shelf.versions() if one.status_at(shelf.now) in counting]
    return {one.key: one for one in versions if one.key in keys}  # the last of each key stays


def _on_plan(subscription: Subscription, plan: Plan | None) -> Subscription:
    """The subscription as if it had been on the plan all its time."""
    if plan is None or plan.id == subscription.plan_id:
        return subscription
    moved = start(
        plan,
        subscription_id=subscription.id,
        customer_id=subscription.customer_id,
        at=subscription.active_from,
        created_at=subscription.created_at,
        billing_anchor=subscription.billing_anchor,
    )
    return replace(moved, active_to=subscription.active_to)


async def _rated(
    books: Books,
    accounts: Sequence[Account],
    before: Sequence[Account],
    month: Period,
    issues: list[str],
) -> Totals:
    """What these accounts owe for what begins in the month, by the usage that is stored now.

    What was rated again at other prices stays so for whoever stays on the plan.
    """
    stayed = {one.id: one for account in before for one in account.subscriptions}
    owed = [
        (
            account,
            Owed(
                subscription,
                account.priced(billable)
                if stayed.get(subscription.id) == subscription
                else billable,
            ),
        )
        for account in accounts
        for subscription in account.subscriptions
        for billable in due(
            subscription,
            month.to + _REACH,
            month.from_ - _REACH,
            account.profile.workflow.end_proration,
        )
        if month.from_ <= billable.service_period.from_ < month.to
    ]
    counted = await count(books, owed, LATEST)
    parts: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for account, one in owed:
        line, issue = rated_line(one, counted)
        if issue is not None:
            issues.append(f"{account.customer.key}: {issue.message}")
        for part in earned_of(line, account.customer.id, month_name(month), is_invoiced=False):
            parts[part.customer_id, part.currency].append(part.amount)
    return {key: total(amounts) for key, amounts in parts.items()}


def _answer(
    month: Period,
    brought: Totals,
    would: Totals,
    names: Mapping[str, str],
    issues: Sequence[str],
) -> BacktestAnswer:
    keys = sorted({*brought, *would}, key=lambda key: (names.get(key[0], key[0]), key[1]))
    rows = [
        _row(names.get(key[0], key[0]), key[1], brought.get(key), would.get(key)) for key in keys
    ]
    sums: list[BacktestRow] = []
    for currency in sorted({key[1] for key in keys}):
        both = [
            total(value for key, value in some.items() if key[1] == currency)
            for some in (brought, would)
        ]
        sums.append(_row("", currency, *both))
    shown = [row for row in rows if Decimal(row.brought) or Decimal(row.would_bring)]
    return BacktestAnswer(month_name(month), shown, sums, list(issues))


def _row(name: str, currency: str, brought: Decimal | None, would: Decimal | None) -> BacktestRow:
    old, new = (round_to_currency(one or Decimal(0), currency) for one in (brought, would))
    return BacktestRow(name, currency, f"{old:f}", f"{new:f}", f"{EXACT.subtract(new, old):f}")


class _TakenBack(Exception):
    """Ends the transaction without keeping what it did."""
