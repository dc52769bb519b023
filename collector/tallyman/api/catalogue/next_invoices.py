"""Whose next invoice a catalogue's file would change, and by how much.

What is on an invoice is `billing/preview.py`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from tallyman.api.catalogue.change import InvoiceChange
from tallyman.api.catalogue.shelf import Shelf
from tallyman.billing.books import Books
from tallyman.billing.preview import previews
from tallyman.domain.invoice import Invoice
from tallyman.domain.money import round_to_currency
from tallyman.domain.plan import Plan
from tallyman.domain.subscription import Subscription, start

Totals = dict[tuple[str, str], Decimal]  # by customer's key and currency


async def totals(books: Books, shelf: Shelf, customers: Mapping[str, str]) -> Totals:
    """What the invoices of these (id: key) come to, of what is not billed yet."""
    accounts = await books.accounts(shelf.namespace, customers)
    return _by_customer(await previews(books, accounts, shelf.now), customers)


async def totals_as_if(books: Books, shelf: Shelf, customers: Mapping[str, str]) -> Totals:
    """The same where each had been on its new plan from the beginning, and not only from now on.

    A change from the next period on leaves this period's invoice as it is; what it comes to is seen
    by this period's usage at the new prices.
    """
    accounts = await books.accounts(shelf.namespace, customers)
    plan_ids = {one.plan_id for account in accounts for one in account.subscriptions}
    plans = await shelf.plans.by_ids(shelf.namespace, plan_ids)
    invoiced, as_if = [], []
    for account in accounts:
        stayed, moved = _as_if(account.subscriptions, plans, shelf)
        invoiced.append(replace(account, subscriptions=stayed))
        as_if.append(replace(account, subscriptions=moved))
    return _by_customer(await previews(books, as_if, shelf.now, invoiced), customers)


def _by_customer(invoices: Iterable[Invoice], customers: Mapping[str, str]) -> Totals:
    return {(customers[one.customer.id], one.currency): one.totals.total for one in invoices}


def invoice_changes(before: Totals, after: Totals) -> list[InvoiceChange]:
    """Those that come to something else."""
    found = []
    for customer, currency in dict.fromkeys((*before, *after)):
        nothing = round_to_currency(Decimal(0), currency)
        old = before.get((customer, currency), nothing)
        new = after.get((customer, currency), nothing)
        if old != new:
            by = new - old
            sign = "+" if by > 0 else ""
            found.append(InvoiceChange(customer, currency, f"{old:f}", f"{new:f}", f"{sign}{by:f}"))
    return found


def _as_if(
    subscriptions: tuple[Subscription, ...], plans: Mapping[str, Plan], shelf: Shelf
) -> tuple[tuple[Subscription, ...], tuple[Subscription, ...]]:
    """Where one was made now to go on for another: the other as it was, and by the one's plan."""
    stayed, moved = list(subscriptions), list(subscriptions)
    for next_ in subscriptions:
        if next_.created_at != shelf.now:
            continue
        for old in subscriptions:
            if old.id != next_.id and old.active_to == next_.active_from:
                stayed[stayed.index(old)] = replace(old, active_to=None)
                moved[moved.index(old)] = start(
                    plans[next_.plan_id],
                    subscription_id=old.id,
                    customer_id=old.customer_id,
                    at=old.active_from,
                    created_at=old.created_at,
                    billing_anchor=old.billing_anchor,
                )
                stayed.remove(next_)
                moved.remove(next_)
    return tuple(stayed), tuple(moved)
