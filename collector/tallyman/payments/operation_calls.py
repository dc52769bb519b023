"""The calls to Stripe beside those of invoices: credit notes, refunds, ways to pay, changed customers.

When what is called is `operate.py`'s.
"""

from dataclasses import dataclass
from typing import Any

from tallyman.payments.stripe_connection import PAGE, StripeConnection, has


@dataclass(frozen=True)
class StripeCreditNote:
    """`refund_id` is the refund that came with it, if one did."""

    id: str
    status: str
    refund_id: str | None = None


@dataclass(frozen=True)
class StripeRefund:
    """`status` is pending, requires_action, succeeded, failed or canceled."""

    id: str
    status: str
    reason: str | None = None


@dataclass(frozen=True)
class StripePayment:
    """What came back of a payment, in Stripe's units, and how a dispute about it stands."""

    refunded: int
    dispute: str | None = None


class OperationCalls:
    """They go over the connection, which says what their errors mean."""

    def __init__(self, connection: StripeConnection) -> None:
        self._stripe = connection.v1
        self._call = connection.call

    async def create_credit_note(self, params: Any, key: str) -> StripeCreditNote:
        """A credit note, issued at once."""
        async with self._call("create_credit_note"):
            made = await self._stripe.credit_notes.create_async(params, {"idempotency_key": key})
            return _credit_note(made.to_dict())

    async def find_credit_note(
        self, stripe_invoice: str, metadata: dict[str, str]
    ) -> StripeCreditNote | None:
        """The invoice's credit note with this metadata."""
        asked: Any = {"invoice": stripe_invoice, "limit": PAGE}
        async with self._call("find_credit_note"):
            page = await self._stripe.credit_notes.list_async(asked)
            async for one in page.auto_paging_iter():
                if has(one.to_dict().get("metadata"), metadata):
                    return _credit_note(one.to_dict())
        return None

    async def credit_note(self, stripe_id: str) -> StripeCreditNote:
        """A credit note as it stands."""
        async with self._call("credit_note"):
            found = await self._stripe.credit_notes.retrieve_async(stripe_id)
            return _credit_note(found.to_dict())

    async def void_credit_note(self, stripe_id: str) -> StripeCreditNote:
        """Take a credit note of an open invoice back; Stripe refuses any other."""
        async with self._call("void_credit_note"):
            found = await self._stripe.credit_notes.void_credit_note_async(stripe_id)
            return _credit_note(found.to_dict())

    async def create_refund(self, params: Any, key: str) -> StripeRefund:
        """Give back some of a payment."""
        async with self._call("create_refund"):
            made = await self._stripe.refunds.create_async(params, {"idempotency_key": key})
            return _refund(made.to_dict())

    async def find_refund(self, payment_id: str, metadata: dict[str, str]) -> StripeRefund | None:
        """The payment's refund with this metadata."""
        asked: Any = {"payment_intent": payment_id, "limit": PAGE}
        async with self._call("find_refund"):
            page = await self._stripe.refunds.list_async(asked)
            async for one in page.auto_paging_iter():
                if has(one.to_dict().get("metadata"), metadata):
                    return _refund(one.to_dict())
        return None

    async def refund(self, stripe_id: str) -> StripeRefund:
        """A refund as it stands."""
        async with self._call("refund"):
            return _refund((await self._stripe.refunds.retrieve_async(stripe_id)).to_dict())

    async def payment(self, payment_id: str) -> StripePayment:
        """What has come back of a payment."""
        async with self._call("payment"):
            found = await self._stripe.payment_intents.retrieve_async(
                payment_id, {"expand": ["latest_charge"]}
            )
            charge = found.to_dict().get("latest_charge")
        if not isinstance(charge, dict):
            return StripePayment(0)
        refunded = int(charge.get("amount_refunded") or 0)
        if not charge.get("disputed"):
            return StripePayment(refunded)
        async with self._call("disputes"):
            page = await self._stripe.disputes.list_async({"payment_intent": payment_id})
            return StripePayment(refunded, next((str(one.status) for one in page.data), None))

    async def last_way_to_pay(self, stripe_customer: str, metadata: dict[str, str]) -> str | None:
        """The way to pay that the customer left last on a page that we have opened."""
        asked: Any = {"customer": stripe_customer, "limit": PAGE}
        async with self._call("setup_intents"):
            page = await self._stripe.setup_intents.list_async(asked)
            async for one in page.auto_paging_iter():  # the newest first
                found = one.to_dict()
                if found.get("status") == "succeeded" and has(found.get("metadata"), metadata):
                    return _id(found.get("payment_method"))
        return None

    async def update_customer(self, stripe_customer: str, params: Any) -> None:
        """Change what the customer is called there."""
        async with self._call("update_customer"):
            await self._stripe.customers.update_async(stripe_customer, params)

    async def set_way_to_pay(self, stripe_customer: str, payment_method: str) -> None:
        """Have the customer's invoices paid with it from now on."""
        params: Any = {"invoice_settings": {"default_payment_method": payment_method}}
        async with self._call("set_way_to_pay"):
            await self._stripe.customers.update_async(stripe_customer, params)


def _credit_note(found: dict[str, Any]) -> StripeCreditNote:
    refunds = found.get("refunds") or []
    refund = _id(refunds[0].get("refund")) if refunds else _id(found.get("refund"))
    return StripeCreditNote(found["id"], found["status"], refund)


def _refund(found: dict[str, Any]) -> StripeRefund:
    return StripeRefund(found["id"], found.get("status") or "pending", found.get("failure_reason"))


def _id(given: Any) -> str | None:
    """Of what is expanded, or not."""
    found = given.get("id") if isinstance(given, dict) else given
    return None if found is None else str(found)
