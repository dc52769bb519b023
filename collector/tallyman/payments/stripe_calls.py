"""Every call to Stripe, one method each, and what each of its answers means to us.

When what is called is `collect.py`'s.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp
import stripe

from tallyman.errors import StripeKeySpent, StripeRefused, StripeUnanswered
from tallyman.metrics import STRIPE_CALL_SECONDS, STRIPE_CALLS
from tallyman.payments.stripe_lines import GENERATION_KEY, LINE_KEY, StripeLine

_PAYMENTS: Final = ["payments.data.payment.payment_intent"]
_PAGE: Final = 100
_KEYS: Final = re.compile(r"\b(sk|rk|pk|whsec|pi|seti|cs)_[A-Za-z0-9_*]{6,}")


@dataclass(frozen=True)
class StripeInvoice:
    """What matters of Stripe's invoice. `payment_status` is that of its payment intent."""

    id: str
    status: str
    total: int
    attempted: bool = False
    payment_id: str | None = None
    payment_status: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def mask_key(key: str) -> str:
    """`sk_test_…1234`: enough to tell which, too little to use."""
    kind = re.match(r"(sk|rk)_(test|live)_", key)
    return f"{kind[0] if kind else ''}…{key[-4:]}"


def without_keys(text: str) -> str:
    """The text with whatever looks like a secret of Stripe's taken out."""
    return _KEYS.sub(lambda found: f"{found[1]}_…", text)


class StripeCalls:
    """Stripe, as one account with one key. It retries nothing by itself."""

    def __init__(self, key: str, url: str, timeout_seconds: float) -> None:
        stripe.enable_telemetry = False
        self.masked_key = mask_key(key)
        self.livemode = "_live_" in key
        self.unauthorized = False
        self._http = stripe.AIOHTTPClient(timeout=timeout_seconds)
        self._timeout = timeout_seconds
        self._stripe = stripe.StripeClient(
            key, base_addresses={"api": url}, http_client=self._http, max_network_retries=0
        ).v1

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]  # it has no types

    async def account_id(self) -> str:
        """The id of the account that the key is of."""
        async with self._call("account"):
            return (await self._stripe.accounts.retrieve_current_async()).id

    async def create_customer(self, params: Any, key: str) -> str:
        """The id of a new customer."""
        async with self._call("create_customer"):
            made = await self._stripe.customers.create_async(params, {"idempotency_key": key})
            return made.id

    async def customer_exists(self, stripe_id: str) -> bool:
        """Whether there is a customer of this id."""
        try:
            async with self._call("customer"):
                found = await self._stripe.customers.retrieve_async(stripe_id)
        except StripeRefused:
            return False
        return not found.to_dict().get("deleted", False)

    async def find_customer(
        self, metadata: dict[str, str], since: datetime, until: datetime
    ) -> str | None:
        """The id of a customer with this metadata that was made in that time."""
        created: Any = {"gte": int(since.timestamp()), "lte": int(until.timestamp()) + 1}
        async with self._call("find_customer"):
            page = await self._stripe.customers.list_async({"created": created, "limit": _PAGE})
            async for one in page.auto_paging_iter():
                if _has(one.to_dict().get("metadata"), metadata):
                    return one.id
        return None

    async def create_invoice(self, params: Any, key: str) -> StripeInvoice:
        """An empty draft."""
        async with self._call("create_invoice"):
            made = await self._stripe.invoices.create_async(params, {"idempotency_key": key})
            return _invoice(made)

    async def find_invoice(
        self, stripe_customer: str, metadata: dict[str, str], since: datetime
    ) -> StripeInvoice | None:
        """The customer's invoice with this metadata that was made since then.

        Listing is consistent at once; Stripe's search is not.
        """
        created: Any = {"gte": int(since.timestamp())}
        async with self._call("find_invoice"):
            page = await self._stripe.invoices.list_async(
                {"customer": stripe_customer, "created": created, "limit": _PAGE}
            )
            async for one in page.auto_paging_iter():
                if _has(one.to_dict().get("metadata"), metadata):
                    return _invoice(one)
        return None

    async def invoice(self, stripe_id: str) -> StripeInvoice | None:
        """An invoice with how its payment stands; None if it was deleted."""
        try:
            async with self._call("invoice"):
                found = await self._stripe.invoices.retrieve_async(stripe_id, {"expand": _PAYMENTS})
        except StripeRefused as err:
            if err.missing:
                return None
            raise
        return None if found.to_dict().get("deleted") else _invoice(found)

    async def line_keys(self, stripe_id: str) -> set[str]:
        """Which of our lines the invoice has."""
        async with self._call("lines"):
            page = await self._stripe.invoices.line_items.list_async(stripe_id, {"limit": _PAGE})
            return {
                str((one.to_dict().get("metadata") or {}).get(LINE_KEY))
                async for one in page.auto_paging_iter()
            }

    async def add_lines(
        self, stripe_id: str, lines: Sequence[StripeLine], key: str
    ) -> StripeInvoice:
        """Add lines to a draft: all of them, or none."""
        sent: Any = [line.params() for line in lines]
        async with self._call("add_lines"):
            changed = await self._stripe.invoices.add_lines_async(
                stripe_id,
                {"lines": sent},
                {"idempotency_key": key},
            )
            return _invoice(changed)

    async def finalize(self, stripe_id: str, key: str) -> StripeInvoice:
        """Make a draft final; from then on Stripe collects it, and asks again where that fails."""
        async with self._call("finalize"):
            changed = await self._stripe.invoices.finalize_invoice_async(
                stripe_id, {"auto_advance": True, "expand": _PAYMENTS}, {"idempotency_key": key}
            )
            return _invoice(changed)

    async def pay(self, stripe_id: str, key: str) -> StripeInvoice:
        """Take the money now.

        Raises:
            StripeRefused: the card, or whatever it is, was declined.
        """
        async with self._call("pay"):
            changed = await self._stripe.invoices.pay_async(
                stripe_id, {"expand": _PAYMENTS}, {"idempotency_key": key}
            )
            return _invoice(changed)

    async def send(self, stripe_id: str, key: str) -> StripeInvoice:
        """Send the invoice to the customer by e-mail."""
        async with self._call("send"):
            changed = await self._stripe.invoices.send_invoice_async(
                stripe_id, {"expand": _PAYMENTS}, {"idempotency_key": key}
            )
            return _invoice(changed)

    async def void(self, stripe_id: str, key: str) -> StripeInvoice:
        """Make an invoice void that is final and not paid."""
        async with self._call("void"):
            changed = await self._stripe.invoices.void_invoice_async(
                stripe_id, {"expand": _PAYMENTS}, {"idempotency_key": key}
            )
            return _invoice(changed)

    async def delete_draft(self, stripe_id: str) -> None:
        """Delete a draft."""
        async with self._call("delete_draft"):
            await self._stripe.invoices.delete_async(stripe_id)

    async def checkout(self, params: Any, key: str) -> dict[str, Any]:
        """A page on which the customer leaves a way to pay."""
        async with self._call("checkout"):
            made = await self._stripe.checkout.sessions.create_async(
                params,
                {"idempotency_key": key},
            )
            return made.to_dict()

    async def portal(self, params: Any, key: str) -> dict[str, Any]:
        """A page on which the customer sees its invoices and ways to pay."""
        async with self._call("portal"):
            made = await self._stripe.billing_portal.sessions.create_async(
                params,
                {"idempotency_key": key},
            )
            return made.to_dict()

    @asynccontextmanager
    async def _call(self, name: str) -> AsyncIterator[None]:
        """One call, counted; what Stripe answers is told as our errors."""
        result = "unanswered"
        try:
            # The library bounds the answer's head and not its body.
            with STRIPE_CALL_SECONDS.labels(name).time():
                async with asyncio.timeout(self._timeout):
                    yield
            result = "done"
            self.unauthorized = False
        except stripe.StripeError as err:
            error = _ours(err)
            result = "refused" if isinstance(error, StripeRefused) else result
            if isinstance(error, StripeUnanswered):
                self.unauthorized = error.unauthorized
            raise error from None  # the cause's text may repeat what was sent
        except (TimeoutError, aiohttp.ClientError, OSError) as err:
            raise StripeUnanswered(f"Stripe did not answer: {type(err).__name__}") from None
        finally:
            STRIPE_CALLS.labels(name, result).inc()


def _ours(err: stripe.StripeError) -> StripeRefused | StripeUnanswered:
    headers = {name.lower(): value for name, value in (err.headers or {}).items()}
    said = without_keys(f"{err.user_message or type(err).__name__}")
    request = f" ({err.request_id})" if err.request_id else ""
    code = f" {err.code}" if err.code else ""
    text = f"Stripe{code}: {said}{request}"
    if isinstance(err, stripe.IdempotencyError):
        return StripeKeySpent(text)
    if isinstance(err, stripe.AuthenticationError | stripe.PermissionError):
        return StripeUnanswered(text, unauthorized=True)
    if isinstance(err, stripe.CardError) or (
        isinstance(err, stripe.InvalidRequestError) and err.http_status in (400, 402, 404)
    ):
        return StripeRefused(text, missing=err.http_status == 404)
    if headers.get("idempotent-replayed") == "true":
        return StripeKeySpent(text)
    return StripeUnanswered(text, _seconds(headers.get("retry-after")))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d{1,5}", text) else None


def _has(given: Any, wanted: dict[str, str]) -> bool:
    given = given or {}
    return all(str(given.get(name)) == value for name, value in wanted.items())


def _invoice(found: stripe.Invoice) -> StripeInvoice:
    values = found.to_dict()
    payment_id = payment_status = None
    payments = (values.get("payments") or {}).get("data") or []
    for one in sorted(payments, key=lambda one: bool(one.get("is_default"))):
        intent = one.get("payment", {}).get("payment_intent")
        if isinstance(intent, dict):
            payment_id, payment_status = intent.get("id"), intent.get("status")
    return StripeInvoice(
        id=values["id"],
        status=values.get("status") or "draft",
        total=values["total"],
        attempted=bool(values.get("attempted")),
        payment_id=payment_id,
        payment_status=payment_status,
        metadata=dict(values.get("metadata") or {}),
    )


def generation_metadata(name: str, id_: str, generation: int) -> dict[str, str]:
    """What tells what we made under one key."""
    return {name: id_, GENERATION_KEY: str(generation)}
