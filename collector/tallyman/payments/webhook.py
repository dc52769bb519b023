"""Stripe's webhooks: whether one is Stripe's, what it is about, and that it is taken in once.

It moves nothing: it says that something must be looked at, and what Stripe says then is what counts.
"""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import stripe

from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.metrics import STRIPE_EVENTS
from tallyman.store.database import Database
from tallyman.store.stripe_customers import StripeCustomerStore
from tallyman.store.stripe_events import StripeEvent, StripeEventStore
from tallyman.store.stripe_invoices import StripeInvoiceStore
from tallyman.store.stripe_operations import StripeOperationStore

TOLERANCE_SECONDS: Final = 300
HEADER: Final = "Stripe-Signature"


class _Object(msgspec.Struct):
    """What an event is about: whatever has an id, or names what does; either may be expanded."""

    id: str = ""
    object: str = ""
    invoice: Any = None
    payment_intent: Any = None
    customer: Any = None


class _Data(msgspec.Struct):
    object: _Object


class _Event(msgspec.Struct):
    id: str
    type: str
    created: int
    data: _Data
    livemode: bool = False


def read_event(body: bytes, signature: str | None, secret: str) -> tuple[StripeEvent, bool]:
    """The event that the body is, and whether it is of live mode.

    Raises:
        InvalidInput: it is not signed with the secret, or too long ago, or it is no event.
    """
    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
    except (stripe.SignatureVerificationError, UnicodeDecodeError, TypeError):
        STRIPE_EVENTS.labels("forged").inc()
        raise _not("is not Stripe's: its signature does not hold", HEADER, "header") from None
    try:
        event = msgspec.json.decode(body, type=_Event)
        created_at = datetime.fromtimestamp(event.created, UTC)
    except (msgspec.DecodeError, ValueError, OverflowError, OSError):
        raise _not("is no event of Stripe's", "body", "body") from None
    about = _about(event.type, event.data.object)
    return StripeEvent(event.id[:255], event.type, about, created_at), event.livemode


def _about(type_: str, given: _Object) -> tuple[str, ...]:
    """The ids of what must be looked at: invoices, payments, customers and what was asked for."""
    match given.object:
        case "setup_intent":
            named = [given.customer] if type_ == "setup_intent.succeeded" else []
        case "customer":
            named = []
        case _:
            named = [given.id, given.invoice, given.payment_intent]
    return tuple(filter(None, map(_id, named)))


def _id(given: Any) -> str | None:
    found = given.get("id") if isinstance(given, dict) else given
    return found if isinstance(found, str) and found else None


class Webhooks:
    """Takes in the events of one namespace's account."""

    def __init__(self, database: Database, namespace: str) -> None:
        self._database = database
        self._namespace = namespace
        self._events = StripeEventStore(database)
        self._syncs = StripeInvoiceStore(database, namespace)
        self._operations = StripeOperationStore(database)
        self._links = StripeCustomerStore(database)

    async def take(self, event: StripeEvent, now: datetime) -> str:
        """What became of the event: new, known, or ignored where it is about nothing of ours."""
        async with self._database.together():
            is_new = await self._events.add(self._namespace, event, now)
            is_ours = False
            for stripe_id in event.about if is_new else ():
                is_ours |= await self._syncs.hint(stripe_id, now)
                is_ours |= await self._operations.hint(self._namespace, stripe_id, now)
                is_ours |= await self._links.hint(self._namespace, stripe_id, now)
        result = "known" if not is_new else "new" if is_ours else "ignored"
        STRIPE_EVENTS.labels(result).inc()
        return result


def _not(reason: str, field: str, source: str) -> InvalidInput:
    parameter = InvalidParameter(field, "invalid", reason, source)
    return InvalidInput(f"the webhook {reason}", [parameter])
