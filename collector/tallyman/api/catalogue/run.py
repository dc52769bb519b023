"""A catalogue's file is put in force as a whole or not at all, or is only compared.

What is done to each thing is `apply.py`'s.
"""

from collections.abc import Iterable
from decimal import Decimal

from tallyman.api.catalogue.apply import apply_catalogue
from tallyman.api.catalogue.change import Change, InvoiceChange, Outcome
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.catalogue.yaml_file import read_yaml
from tallyman.billing.books import Books
from tallyman.billing.preview import preview
from tallyman.domain.money import round_to_currency
from tallyman.errors import NotFound

Totals = dict[tuple[str, str], Decimal]  # by customer and currency


async def put_in_force(shelf: Shelf, text: str, name: str) -> Outcome:
    """Make and change what the file has, all of it or, if anything cannot be, nothing.

    Raises:
        InvalidCatalogue: something cannot be; names the line and key.
    """
    file = read_yaml(text, name)
    await shelf.meters.add_built_in(shelf.namespace)
    async with shelf.database.together():
        return Outcome(await apply_catalogue(shelf, file))


async def compare(shelf: Shelf, text: str, name: str, books: Books | None = None) -> Outcome:
    """What `put_in_force` would do, done and taken back; with books, also what it would cost whom.

    Raises:
        InvalidCatalogue: something cannot be; names the line and key.
    """
    file = read_yaml(text, name)
    await shelf.meters.add_built_in(shelf.namespace)
    changes: list[Change] = []
    after: Totals = {}
    try:
        async with shelf.database.together():
            changes = await apply_catalogue(shelf, file)
            if books is not None:
                after = await _totals(books, shelf, changes)
            raise _TakenBack
    except _TakenBack:
        pass
    if books is None:
        return Outcome(changes)
    before = await _totals(books, shelf, changes)
    return Outcome(changes, list(_invoices(before, after)))


class _TakenBack(Exception):
    """Ends the transaction without keeping what it did."""


async def _totals(books: Books, shelf: Shelf, changes: Iterable[Change]) -> Totals:
    """What the next invoices of those come to who are touched."""
    found: Totals = {}
    touched = {one.customer_id: one.key for one in changes if one.customer_id}
    for customer_id, key in touched.items():
        try:
            invoices = await preview(books, shelf.namespace, customer_id, shelf.now)
        except NotFound:  # before, when it is yet to be made
            continue
        for invoice in invoices:
            found[key, invoice.currency] = invoice.totals.total
    return found


def _invoices(before: Totals, after: Totals) -> Iterable[InvoiceChange]:
    for customer, currency in dict.fromkeys((*before, *after)):
        nothing = round_to_currency(Decimal(0), currency)
        old = before.get((customer, currency), nothing)
        new = after.get((customer, currency), nothing)
        if old != new:
            by = new - old
            yield InvoiceChange(customer, currency, f"{old:f}", f"{new:f}", f"{by:+f}")
