"""What is behind an invoice line, by request; `tallyman explain` asks it where a server runs."""

import msgspec
from aiohttp import web

from tallyman.api.customers import path_text
from tallyman.api.explanation_answers import explanation_answer, lines_answer
from tallyman.api.parameters import CursorParameters, refuse_any
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER
from tallyman.billing.explain import explain, explain_all

EVENTS = CursorParameters()


async def list_(request: web.Request) -> web.Response:
    """The lines of the invoice, by id or number, each counted again."""
    refuse_any(request)
    namespace, invoice_id = request[CALLER].namespace, path_text(request, "invoiceId")
    found = await explain_all(request.app[BOOKS], namespace, invoice_id)
    return web.Response(body=msgspec.json.encode(lines_answer(found)), content_type=JSON)


async def usage(request: web.Request) -> web.Response:
    """A line of the invoice, by id or number, with a page of its events."""
    size, after = EVENTS.read(request)
    found = await explain(
        request.app[BOOKS],
        request[CALLER].namespace,
        path_text(request, "invoiceId"),
        path_text(request, "lineId"),
        size=size,
        after=after,
    )
    return web.Response(
        body=msgspec.json.encode(explanation_answer(found, size)), content_type=JSON
    )
