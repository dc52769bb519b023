"""`/profiles`: billing profiles made, read, listed, put anew and deleted."""

from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.apps import installed
from tallyman.api.billing_profile_bodies import (
    BillingProfileAnswer,
    BillingProfilePage,
    CreateBillingProfileRequest,
    UpsertBillingProfileRequest,
)
from tallyman.api.customers import path_text
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.parameters import ListParameters
from tallyman.api.party_bodies import AppsBody, apps_of
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Answer
from tallyman.domain.billing_profile import App, BillingProfile
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.billing_profiles import SORTABLE, BillingProfileChange

LIST: Final = ListParameters(texts=(), sortable=SORTABLE, descending=False, pages="numbered")


async def create(request: web.Request) -> web.Response:
    """Make a profile."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateBillingProfileRequest)
    app = await _app(request, body.apps)
    caller, now = request[CALLER], request[NOW]
    made = await request.app[BOOKS].profiles.create(
        BillingProfile(
            id="",
            namespace=caller.namespace,
            name=body.name,
            supplier=body.supplier.supplier(),
            workflow=body.workflow.workflow(),
            is_default=body.default,
            created_at=now,
            updated_at=now,
            description=body.description,
            labels=body.labels or {},
            app=app,
        ),
        by=caller.actor,
    )
    return _answer(BillingProfileAnswer.of(made), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the profiles."""
    asked = LIST.read(request)
    profiles, total = await request.app[BOOKS].profiles.page(
        request[CALLER].namespace,
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    data = [BillingProfileAnswer.of(profile) for profile in profiles]
    return _answer(BillingProfilePage(data=data, meta=meta))


async def get(request: web.Request) -> web.Response:
    """One profile."""
    parameters.refuse_any(request)
    found = await request.app[BOOKS].profiles.get(
        request[CALLER].namespace, path_text(request, "profileId")
    )
    return _answer(BillingProfileAnswer.of(found))


async def update(request: web.Request) -> web.Response:
    """Put a profile anew; invoices that are made already keep what it was."""
    parameters.refuse_any(request)
    body = await read_body(request, UpsertBillingProfileRequest)
    caller = request[CALLER]
    changed = await request.app[BOOKS].profiles.replace(
        caller.namespace,
        path_text(request, "profileId"),
        BillingProfileChange(
            name=body.name,
            supplier=body.supplier.supplier(),
            workflow=body.workflow.workflow(),
            is_default=body.default,
            description=body.description,
            labels=body.labels,
        ),
        request[NOW],
        by=caller.actor,
    )
    return _answer(BillingProfileAnswer.of(changed))


async def delete(request: web.Request) -> web.Response:
    """Delete a profile that is not the default."""
    parameters.refuse_any(request)
    caller = request[CALLER]
    await request.app[BOOKS].profiles.delete(
        caller.namespace, path_text(request, "profileId"), request[NOW], by=caller.actor
    )
    return web.Response(status=204)


async def _app(request: web.Request, apps: AppsBody | None) -> App:
    """The app that is chosen, the same for invoices and payments.

    Raises:
        InvalidInput: there is no such app here.
    """
    if apps is None:
        return App.SANDBOX
    there = await installed(request)
    chosen = next((one for one in there if apps_of(one).invoicing == apps.invoicing), None)
    wanted = apps_of(chosen or App.SANDBOX)
    for name in ("tax", "invoicing", "payment"):
        if getattr(apps, name) != getattr(wanted, name):
            at, reason = f"apps.{name}.id", f"must be {getattr(wanted, name).id}: see GET /apps"
            raise InvalidInput(
                f"{at} {reason}", [InvalidParameter(at, "missing_reference", reason)]
            )
    return chosen or App.SANDBOX


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
