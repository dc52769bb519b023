"""`/apps`: who can send invoices. They are set up by settings, and not by requests."""

from typing import Any, Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.app_bodies import STRIPE as STRIPE_DEFINITION
from tallyman.api.app_bodies import AppPage, SandboxApp, StripeAppAnswer, app_id
from tallyman.api.customers import path_text
from tallyman.api.meter_bodies import PageMeta, PaginatedMeta
from tallyman.api.parameters import ListParameters
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, STRIPE
from tallyman.api.wire import Answer
from tallyman.domain.billing_profile import App
from tallyman.domain.period import EPOCH
from tallyman.errors import AppNotReady, NotFound
from tallyman.payments.stripe_app import StripeApp

LIST: Final = ListParameters(texts=(), sortable=("created_at",), descending=False, pages="numbered")


async def list_(request: web.Request) -> web.Response:
    """One page of the apps."""
    asked = LIST.read(request)
    every = await _apps(request)
    first = (asked.number - 1) * asked.size
    meta = PaginatedMeta(page=PageMeta(number=asked.number, size=asked.size, total=len(every)))
    return _answer(AppPage(data=every[first : first + asked.size], meta=meta))


async def get(request: web.Request) -> web.Response:
    """One app."""
    parameters.refuse_any(request)
    wanted = path_text(request, "appId")
    for one in await _apps(request):
        if one.id == wanted:
            return _answer(one)
    raise NotFound(f"no app has the id {wanted}")


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


async def _apps(request: web.Request) -> list[Any]:
    found: list[Any] = [SandboxApp.made()]
    app = request.app[STRIPE]
    if app is not None and has_stripe(request):
        account_id = await app.account_id()
        found.append(
            StripeAppAnswer(
                id=app_id(App.STRIPE),
                name="Stripe",
                created_at=EPOCH,
                updated_at=EPOCH,
                definition=STRIPE_DEFINITION,
                status="unauthorized" if app.connection.unauthorized else "ready",
                account_id=account_id or "",
                livemode=app.connection.livemode,
                masked_api_key=app.connection.masked_key,
            )
        )
    return found


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
