"""`/customers`: made, read, listed, put anew and deleted.

Their subscriptions are `subscriptions.py`'s, what they may use `entitlement_access.py`'s.
"""

from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customer_bodies import (
    CreateCustomerRequest,
    CustomerAnswer,
    CustomerPage,
    UpsertCustomerRequest,
)
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, CUSTOMERS, NOW
from tallyman.api.wire import Answer
from tallyman.domain.customer import Customer
from tallyman.errors import NotFound
from tallyman.store.customer_rows import COLUMNS, PLAN_KEY, SUBJECT_KEY
from tallyman.store.customers import SORTABLE, CustomerChange

LIST: Final = ListParameters(
    texts=(*COLUMNS, SUBJECT_KEY, PLAN_KEY), sortable=SORTABLE, descending=False, pages="numbered"
)


async def create(request: web.Request) -> web.Response:
    """Make a customer."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateCustomerRequest)
    caller, now = request[CALLER], request[NOW]
    made = await request.app[CUSTOMERS].create(
        Customer(
            id="",
            namespace=caller.namespace,
            key=body.key,
            created_at=now,
            updated_at=now,
            **body.fields(),
        ),
        by=caller.actor,
    )
    return _answer(CustomerAnswer.of(made), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the customers."""
    asked = LIST.read(request)
    customers, total = await request.app[CUSTOMERS].page(
        request[CALLER].namespace,
        comparisons_of(asked),
        now=request[NOW],
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    return _answer(CustomerPage(data=[CustomerAnswer.of(found) for found in customers], meta=meta))


async def get(request: web.Request) -> web.Response:
    """One customer."""
    parameters.refuse_any(request)
    return _answer(CustomerAnswer.of(await find(request)))


async def upsert(request: web.Request) -> web.Response:
    """Put a customer anew; what is absent is no more."""
    parameters.refuse_any(request)
    body = await read_body(request, UpsertCustomerRequest)
    caller = request[CALLER]
    changed = await request.app[CUSTOMERS].replace(
        caller.namespace,
        path_text(request, "customerId"),
        CustomerChange(**body.fields()),
        request[NOW],
        by=caller.actor,
    )
    return _answer(CustomerAnswer.of(changed))


async def delete(request: web.Request) -> web.Response:
    """Delete a customer who has no subscription that goes on."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await request.app[CUSTOMERS].delete(
        caller.namespace, path_text(request, "customerId"), request[NOW], by=caller.actor
    )
    return web.Response(status=204)


async def find(request: web.Request) -> Customer:
    """The customer that the path names, by id or key, in the caller's namespace."""
    return await request.app[CUSTOMERS].get(
        request[CALLER].namespace, path_text(request, "customerId")
    )


def path_text(request: web.Request, name: str) -> str:
    """A part of the path; Postgres would not take a NUL.

    Raises:
        NotFound: there can be nothing of that name.
    """
    given = request.match_info[name]
    if "\x00" in given:
        raise NotFound("there is nothing at this path")
    return given


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
