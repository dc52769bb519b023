"""The calls to Stripe about customers and invoices, one method each, and what their answers mean.

When what is called is `collect.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import stripe

from tallyman.errors import StripeRefused
from tallyman.payments.stripe_connection import PAGE, StripeConnection, has
from tallyman.payments.stripe_lines import GENERATION_KEY, LINE_KEY, StripeLine

_PAYMENTS: Final = ["payments.data.payment.payment_intent"]


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


class StripeCalls:
    """They go over the connection, which says what their errors mean."""

    def __init__(self, connection: StripeConnection) -> None:
        self._stripe = connection.v1
        self._call = connection.call

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
            page = await self._stripe.customers.list_async({"created": created, "limit": PAGE})
            async for one in page.auto_paging_iter():
                if has(one.to_dict().get("metadata"), metadata):
                    return one.id
        return None

    async def search_customer(self, name: str, value: str) -> str | None:
        """The id of a customer with this metadata, made whenever; one made just now is not found.

        Stripe's search is behind by a minute or more, and some countries have none.
        """
        asked: Any = {"query": f"metadata['{name}']:'{value}'", "limit": 1}
        try:
            async with self._call("search_customer"):
                page = await self._stripe.customers.search_async(asked)
                return next(
                    (one.id for one in page.data if has(_metadata(one), {name: value})), None
                )
        except StripeRefused:
            return None

    async def create_invoice(self, params: Any, key: str) -> StripeInvoice:
        """An empty draft."""
        async with self._call("create_invoice"):
            made = await self._stripe.invoices.create_async(params, {"idempotency_key": key})
            return _invoice(made)

    async def find_invoice(
        self, stripe_customer: str, metadata: dict[str, str], since: datetime | None
    ) -> StripeInvoice | None:
        """The customer's invoice with this metadata that was made since then, unless it is void.

        Listing is consistent at once; Stripe's search is not.
        """
        asked: Any = {"customer": stripe_customer, "limit": PAGE}
        if since is not None:
            asked["created"] = {"gte": int(since.timestamp())}
        async with self._call("find_invoice"):
            page = await self._stripe.invoices.list_async(asked)
            async for one in page.auto_paging_iter():
                found = one.to_dict()
                if found.get("status") != "void" and has(found.get("metadata"), metadata):
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
            page = await self._stripe.invoices.line_items.list_async(stripe_id, {"limit": PAGE})
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

    async def pay(self, stripe_id: str, key: str, way_to_pay: str | None = None) -> StripeInvoice:
        """Take the money now; with the invoice's or the customer's way to pay, if none is named.

        Raises:
            StripeRefused: the card, or whatever it is, was declined.
        """
        async with self._call("pay"):
            params: Any = {"expand": _PAYMENTS}
            if way_to_pay is not None:
                params["payment_method"] = way_to_pay
            changed = await self._stripe.invoices.pay_async(
                stripe_id, params, {"idempotency_key": key}
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


def _metadata(found: stripe.Customer) -> Any:
    return found.to_dict().get("metadata")


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
