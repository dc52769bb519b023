"""`/api/v1/stripe/webhook`: what Stripe says by itself. Its signature is its key."""

from typing import Any, Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.route import JSON
from tallyman.api.state import CLOCK, STRIPE
from tallyman.api.wire import Answer
from tallyman.errors import AppNotReady, InvalidInput, InvalidParameter
from tallyman.payments.webhook import HEADER, read_event


class WebhookAnswer(Answer):
    """What became of the event: new, known, or ignored."""

    result: str


class SignatureParameter:
    """The header that Stripe signs with."""

    def describe(self) -> list[dict[str, Any]]:
        """The header for the OpenAPI document."""
        return [
            {
                "name": HEADER,
                "in": "header",
                "required": True,
                "description": "Stripe's signature of the body, and when it was made.",
                "schema": {"type": "string"},
            }
        ]


SIGNATURE: Final = SignatureParameter()


async def take(request: web.Request) -> web.Response:
    """Take in an event, once; the answer comes before anything is done about it."""
    parameters.refuse_any(request)
    signature = request.headers.get(HEADER)
    if signature is None:
        raise InvalidInput(
            f"{HEADER} is required", [InvalidParameter(HEADER, "required", "is required", "header")]
        )
    app = request.app[STRIPE]
    if app is None or app.account.webhook_secret is None:
        raise AppNotReady("Stripe, or its webhook's secret, is not set up: see docs/stripe.md")
    body = await request.read()
    event, livemode = read_event(body, signature, app.account.webhook_secret)
    result = "ignored"
    if livemode == app.connection.livemode:
        result = await app.webhooks.take(event, request.app[CLOCK]())
    return web.Response(body=WebhookAnswer(result=result).to_json(), content_type=JSON)
