"""`/apps` and `/app-catalog`: who can send invoices.

Stripe is set up by settings, and not by requests: its key is in the environment alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.app_bodies import (
    CATALOGUE,
    AppAnswer,
    AppPage,
    CataloguePage,
    ExternalInvoicingApp,
    InstallAnswer,
    InstallRequest,
    InstallStripe,
    SandboxApp,
    StripeAppAnswer,
    UpdateExternalInvoicing,
    UpdateRequest,
    UpdateStripe,
    app_id,
    common,
)
from tallyman.api.customers import path_text
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.parameters import ListParameters, ListQuery
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import APPS, BOOKS, CALLER, NOW, STRIPE
from tallyman.api.wire import Answer
from tallyman.domain.billing_profile import App, BillingProfile, Supplier, Workflow
from tallyman.domain.installed_app import InstalledApp
from tallyman.domain.period import EPOCH
from tallyman.errors import AppNotReady, Conflict, InvalidInput, InvalidParameter, NotFound
from tallyman.payments.stripe_app import StripeApp

LIST: Final = ListParameters(texts=(), sortable=("created_at",), descending=False, pages="numbered")
CATALOGUE_LIST: Final = ListParameters(
    texts=(), sortable=("type",), descending=False, pages="numbered"
)


async def list_(request: web.Request) -> web.Response:
    """One page of the apps."""
    asked = LIST.read(request)
    every = list((await installed(request)).values())
    shown = [await _shown(request, one) for one in _on_page(every, asked)]
    return _answer(AppPage(data=shown, meta=PaginatedMeta.of(asked, len(every))))


async def get(request: web.Request) -> web.Response:
    """One app."""
    parameters.refuse_any(request)
    return _answer(await _shown(request, await _find(request)))


async def list_catalogue(request: web.Request) -> web.Response:
    """One page of the apps that there are."""
    asked = CATALOGUE_LIST.read(request)
    every = sorted(CATALOGUE.values(), key=lambda one: one.type, reverse=asked.descending)
    page = CataloguePage(
        data=list(_on_page(every, asked)), meta=PaginatedMeta.of(asked, len(every))
    )
    return _answer(page)


async def get_catalogue_item(request: web.Request) -> web.Response:
    """One of the apps that there are."""
    parameters.refuse_any(request)
    return _answer(CATALOGUE[App(path_text(request, "appType"))])


async def install(request: web.Request) -> web.Response:
    """Have an app, and a billing profile with it if that is asked for."""
    parameters.refuse_any(request)
    body = (await read_body(request, InstallRequest)).root
    if isinstance(body, InstallStripe):
        stripe_of(request).check_key(body.api_key, "api_key")
    app, caller, now = App(body.type), request[CALLER], request[NOW]
    made = InstalledApp(caller.namespace, app, body.name, now, now)
    if app is App.SANDBOX:
        raise Conflict("the sandbox is installed already")
    await request.app[BOOKS].profiles.default(caller.namespace)  # kept whatever follows
    async with request.app[BOOKS].database.together():
        await request.app[APPS].install(made, by=caller.actor)
        if body.create_billing_profile:
            profile = BillingProfile(
                "", caller.namespace, body.name, Supplier(), Workflow(), False, now, now, app=app
            )
            await request.app[BOOKS].profiles.create(profile, by=caller.actor)
    shown = await _shown(request, made)
    return _answer(InstallAnswer(app=shown, default_for_capability_types=[]), 201)


async def update(request: web.Request) -> web.Response:
    """Say what an app is called, and where invoices wait for it."""
    parameters.refuse_any(request)
    body = (await read_body(request, UpdateRequest)).root
    found = await _find(request)
    if body.type != found.app:
        reason = f"must be {found.app}, as it is"
        raise InvalidInput(f"type {reason}", [InvalidParameter("type", "invalid", reason)])
    if isinstance(body, UpdateStripe) and body.secret_api_key is not None:
        stripe_of(request).check_key(body.secret_api_key, "secret_api_key")
    changed = replace(
        found,
        name=body.name,
        description=body.description,
        labels=body.labels or {},
        updated_at=request[NOW],
    )
    if isinstance(body, UpdateExternalInvoicing):
        changed = replace(
            changed,
            waits_in_draft=body.enable_draft_sync_hook,
            waits_to_issue=body.enable_issuing_sync_hook,
        )
    kept = await request.app[APPS].put(changed, by=request[CALLER].actor)
    return _answer(await _shown(request, kept))


async def uninstall(request: web.Request) -> web.Response:
    """Have external invoicing no more, if no profile has it."""
    parameters.refuse_any(request)
    found = await _find(request)
    if found.app is not App.EXTERNAL_INVOICING:
        where = "always there" if found.app is App.SANDBOX else "there as long as its key is set"
        raise Conflict(f"the app {found.app} is {where}")
    await request.app[APPS].uninstall(found, request[NOW], by=request[CALLER].actor)
    return web.Response(status=204)


async def installed(request: web.Request) -> dict[App, InstalledApp]:
    """The apps of the caller's namespace; some are there without being asked for."""
    namespace = request[CALLER].namespace
    said = await request.app[APPS].every(namespace)
    always = [App.SANDBOX, *([App.STRIPE] if has_stripe(request) else [])]
    return {
        app: said.get(app) or InstalledApp(namespace, app, CATALOGUE[app].name, EPOCH, EPOCH)
        for app in App
        if app in always or (app in said and app is App.EXTERNAL_INVOICING)
    }


def stripe_of(request: web.Request) -> StripeApp:
    """Stripe, for the caller's namespace.

    Raises:
        AppNotReady: it is not set up, or for another namespace.
    """
    app = request.app[STRIPE]
    if app is None or not has_stripe(request):
        raise AppNotReady("Stripe is not set up for this namespace: see docs/stripe.md")
    return app


def has_stripe(request: web.Request) -> bool:
    """Whether Stripe is set up for the caller's namespace."""
    app = request.app[STRIPE]
    return app is not None and app.account.namespace == request[CALLER].namespace


async def _find(request: web.Request) -> InstalledApp:
    wanted = path_text(request, "appId")
    for one in (await installed(request)).values():
        if app_id(one.app) == wanted:
            return one
    raise NotFound(f"no app has the id {wanted}")


async def _shown(request: web.Request, one: InstalledApp) -> AppAnswer:
    given: dict[str, Any] = common(one)
    match one.app:
        case App.SANDBOX:
            return SandboxApp(**given)
        case App.EXTERNAL_INVOICING:
            return ExternalInvoicingApp(
                **given,
                enable_draft_sync_hook=one.waits_in_draft,
                enable_issuing_sync_hook=one.waits_to_issue,
            )
    stripe = stripe_of(request)
    account_id = await stripe.account_id()
    status = "unauthorized" if stripe.connection.unauthorized else "ready"
    return StripeAppAnswer(
        **given | {"status": status},
        account_id=account_id or "",
        livemode=stripe.connection.livemode,
        masked_api_key=stripe.connection.masked_key,
    )


def _on_page(every: Sequence[Any], asked: ListQuery) -> Sequence[Any]:
    return every[asked.offset : asked.offset + asked.size]


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
