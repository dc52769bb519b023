"""Owns the part of the small Stripe where money comes back: credit notes, refunds, disputes.

Also the ways to pay that customers have left. What keeps keys and fails is `stripe.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, dict[str, Any]]


@dataclass
class StripeMoney:
    """What was given back, by id; `refund_ends` is how new refunds stand."""

    credit_notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    disputes: dict[str, str] = field(default_factory=dict)  # payment → status
    setups: list[dict[str, Any]] = field(default_factory=list)  # the newest last
    refund_ends: str = "succeeded"
    given_back: int = 0  # how many ids of both were given

    def refunded(self, payment: str) -> int:
        """How much of a payment came back."""
        mine = [x for x in self.refunds.values() if x["payment_intent"] == payment]
        return sum(int(x["amount"]) for x in mine if x["status"] in ("succeeded", "pending"))

    def money(
        self, call: str, id_: str, params: dict[str, Any], query: Mapping[str, str], at: int
    ) -> Answer | None:
        """The answer to a call, if it is one of these."""
        match call:
            case "POST credit_notes":
                return self._credit(params, at)
            case "POST credit_notes/void":
                return self._void(id_)
            case "POST refunds":
                return self._refund(params, at)
        return self._read(call, id_, query)

    def _read(self, call: str, id_: str, query: Mapping[str, str]) -> Answer | None:
        match call:
            case "GET credit_notes":
                return 200, _list(self.credit_notes, "invoice", query)
            case "GET credit_notes:id":
                return 200, self.credit_notes[id_]
            case "GET refunds":
                return 200, _list(self.refunds, "payment_intent", query)
            case "GET refunds:id":
                return 200, self.refunds[id_]
            case "GET payment_intents:id":
                charge = {"amount_refunded": self.refunded(id_), "disputed": id_ in self.disputes}
                return 200, {"id": id_, "object": "payment_intent", "latest_charge": charge}
            case "GET disputes":
                asked = query["payment_intent"]
                found = [x for x in self.disputes if x == asked]
                data = [
                    {"id": f"dp_{x}", "object": "dispute", "status": self.disputes[x]}
                    for x in found
                ]
                return 200, _page(data)
            case "GET setup_intents":
                return 200, _page(
                    [x for x in reversed(self.setups) if x["customer"] == query["customer"]]
                )
        return None

    def invoice_for(self, stripe_id: str) -> dict[str, Any] | None:
        """The final invoice, with its total."""
        raise NotImplementedError

    def owed(self, stripe_id: str) -> int:
        """What is still to be paid of an open invoice."""
        mine = [x for x in self.credit_notes.values() if x["invoice"] == stripe_id]
        invoice = self.invoice_for(stripe_id) or {}
        return int(invoice["total"]) - sum(int(x["pre_payment"]) for x in mine)

    def _credit(self, params: dict[str, Any], at: int) -> Answer:
        invoice = self.invoice_for(params["invoice"])
        if invoice is None or invoice["status"] not in ("open", "paid"):
            return _refused("Credit notes are for open and paid invoices")
        amount = sum(int(line["unit_amount"]) * int(line["quantity"]) for line in params["lines"])
        returned = {
            x: int(params.get(x, 0))
            for x in ("refund_amount", "credit_amount", "out_of_band_amount")
        }
        is_paid = invoice["status"] == "paid"
        if sum(returned.values()) != (amount if is_paid else 0):
            return _refused("The sum of what is returned must be the credit note's amount")
        mine = [x for x in self.credit_notes.values() if x["invoice"] == params["invoice"]]
        if amount + sum(x["amount"] for x in mine) > invoice["total"]:
            return _refused("The amount is more than the invoice's")
        id_ = self._new_id("cn")
        refunds = []
        if returned["refund_amount"]:
            payment = f"pi_{params['invoice']}"
            status, made = self._refund(
                {"payment_intent": payment, "amount": returned["refund_amount"]}, at
            )
            if status != 200:
                return status, made
            refunds = [{"refund": made["id"], "amount_refunded": returned["refund_amount"]}]
        self.credit_notes[id_] = {
            "id": id_,
            "object": "credit_note",
            "status": "issued",
            "created": at,
            "amount": amount,
            "pre_payment": 0 if is_paid else amount,
            "refunds": refunds,
            **{name: params[name] for name in ("invoice", "metadata", "lines")},
            **returned,
        }
        if not is_paid and not self.owed(params["invoice"]):
            self.settle(params["invoice"])
        return 200, self.credit_notes[id_]

    def _void(self, id_: str) -> Answer:
        note = self.credit_notes[id_]
        invoice = self.invoice_for(note["invoice"]) or {}
        if note["status"] == "void" or invoice["status"] != "open":
            return _refused("You can only void an issued credit note of an open invoice")
        note |= {"status": "void", "pre_payment": 0, "amount": 0}
        return 200, note

    def settle(self, stripe_id: str) -> None:
        """Nothing is owed any more."""
        raise NotImplementedError

    def _refund(self, params: dict[str, Any], at: int) -> Answer:
        payment, amount = params["payment_intent"], int(params["amount"])
        if self.refunded(payment) + amount > self.paid_of(payment):
            return _refused("Refund amount is greater than unrefunded amount on charge")
        id_ = self._new_id("re")
        self.refunds[id_] = {
            "id": id_,
            "object": "refund",
            "status": self.refund_ends,
            "created": at,
            "metadata": {},
            **params,
        }
        return 200, self.refunds[id_]

    def _new_id(self, prefix: str) -> str:
        self.given_back += 1
        return f"{prefix}_{self.given_back}"

    def paid_of(self, payment: str) -> int:
        """How much was paid with a payment."""
        raise NotImplementedError


def _list(where: dict[str, dict[str, Any]], name: str, query: Mapping[str, str]) -> dict[str, Any]:
    return _page([x for x in where.values() if x[name] == query[name]])


def _page(data: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": False, "url": "/v1/things"}


def _refused(message: str) -> Answer:
    return 400, {"error": {"type": "invalid_request_error", "code": "invalid", "message": message}}
