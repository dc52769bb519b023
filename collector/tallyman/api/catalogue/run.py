"""A catalogue's file is put in force as a whole or not at all, or is only compared.

What is done to each thing is `apply.py`'s.
"""

import msgspec
from aiohttp import web

from tallyman.api.catalogue.apply import apply_catalogue
from tallyman.api.catalogue.change import Change, Outcome
from tallyman.api.catalogue.next_invoices import Totals, invoice_changes, totals, totals_as_if
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.catalogue.yaml_file import read_yaml
from tallyman.api.feature_warnings import never_passed
from tallyman.api.parameters import refuse_any
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Body
from tallyman.billing.books import Books
from tallyman.billing.losses import losses
from tallyman.billing.margin_report import loss_answers, loss_line


async def put_in_force(shelf: Shelf, text: str, name: str) -> Outcome:
    """Make and change what the file has, all of it or, if anything cannot be, nothing.

    Raises:
        InvalidCatalogue: something cannot be; names the line and key.
    """
    file = read_yaml(text, name)
    await shelf.meters.add_built_in(shelf.namespace)
    async with shelf.database.together():
        return Outcome(await apply_catalogue(shelf, file))


class CompareRequest(Body):
    """A catalogue's file, and what it is called in errors."""

    text: str
    name: str = "catalog.yaml"


async def answer_compare(request: web.Request) -> web.Response:
    """What putting a file in force would change, and whose next invoice by how much."""
    refuse_any(request)
    body = await read_body(request, CompareRequest)
    caller, books = request[CALLER], request.app[BOOKS]
    shelf = Shelf(books.database, caller.namespace, request[NOW], caller.actor)
    outcome = await compare(shelf, body.text, body.name, books)
    return web.Response(body=msgspec.json.encode(outcome), content_type=JSON)


async def compare(shelf: Shelf, text: str, name: str, books: Books | None = None) -> Outcome:
    """What `put_in_force` would do, done and taken back; with books, also what it would cost whom, and what
    the events say to the filters of features.

    Raises:
        InvalidCatalogue: something cannot be; names the line and key.
    """
    file = read_yaml(text, name)
    await shelf.meters.add_built_in(shelf.namespace)
    if books is not None:
        await books.profiles.default(shelf.namespace)  # made at its first use, and not to be lost
        await books.prices.add_built_in(shelf.namespace, shelf.now)
    outcome, after, losing = Outcome([]), Totals(), list[str]()
    try:
        async with shelf.database.together():
            outcome = Outcome(await apply_catalogue(shelf, file))
            touched = {one.customer_id: one.key for one in outcome.changes if one.customer_id}
            if books is not None:
                outcome = Outcome(await _warned(books, shelf, outcome.changes))
                after = await totals_as_if(books, shelf, touched)
                losing = await _losses(books, shelf, outcome)
            raise _TakenBack
    except _TakenBack:
        pass
    if books is None:
        return outcome
    before = await totals(books, shelf, touched)
    return Outcome(outcome.changes, invoice_changes(before, after), losing)


async def _losses(books: Books, shelf: Shelf, outcome: Outcome) -> list[str]:
    """What the plans would lose, each in the version that would be in force."""
    keys = {one.key for one in outcome.changes if one.kind == "plan"}
    if not keys:
        return []
    found = loss_answers(await losses(books, shelf.namespace, shelf.now, keys))
    newest = {plan.key: plan.version for plan in await shelf.versions()}
    return [loss_line(one) for one in found if one.plan_version == newest[one.plan]]


async def _warned(books: Books, shelf: Shelf, changes: list[Change]) -> list[Change]:
    """The changes, with what `POST /features` would warn of."""
    warned = []
    for one in changes:
        if one.filtered:
            feature = await shelf.features.get(shelf.namespace, one.key)
            found = await never_passed(books.events, shelf.meters, feature, shelf.now)
            said = "; ".join(f"{warning.field}: {warning.message}" for warning in found)
            warned.append(msgspec.structs.replace(one, warning=said))
        else:
            warned.append(one)
    return warned


class _TakenBack(Exception):
    """Ends the transaction without keeping what it did."""
