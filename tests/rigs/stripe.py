"""Owns a small Stripe: customers, invoices, lines and payments that it remembers, over HTTP.

It keeps idempotency keys as Stripe does: the first answer again for the same parameters, also a 500,
an error for others, forgotten after 24 hours of its own clock. It knows no parameter's rules: those
are checked against stripe-mock.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import stripe
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.rigs.stripe_money import StripeMoney

KEY_MEMORY_SECONDS = 24 * 3600
SECRET = "whsec_of_the_tests"


@dataclass
class Fault:
    """What goes wrong with the nth matching call: `answer` 429, 500, or none at all (a time-out)."""

    call: str
    answer: int | None
    has_effect: bool = False
    times: int = 1
    kept: bool = True  # a 500 is kept under its key; a 429 never is


@dataclass
class FakeStripe(StripeMoney):
    """Everything that the account has. `now` is its clock."""

    now: float = 1_796_000_000.0
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    payments: list[tuple[str, int]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    declines: str | None = None  # how a payment ends: declined, action or none (no way to pay)
    surcharge: int = 0  # what a total has that no line says
    refuses: str | None = None  # why it makes no invoice
    is_revoked: bool = False  # whether Stripe takes the key no more
    url: str = ""
    _keys: dict[str, tuple[float, str, int, dict[str, Any]]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def paid(self) -> Counter[str]:
        """How often each invoice was paid."""
        return Counter(invoice for invoice, _ in self.payments)

    async def handle(self, request: web.Request) -> web.Response:
        """One call."""
        text = (await request.read()).decode()
        params = _nested(parse_qsl(text, keep_blank_values=True))
        call = self._name(request.method, request.path)
        self.calls.append(call)
        if self.is_revoked:
            said = f"Invalid API Key provided: {request.headers['Authorization']}"
            return _response(401, _error("invalid_request_error", "api_key_expired", said))
        key = request.headers.get("Idempotency-Key")
        if key is not None and (kept := self._kept(key, request.path + text)) is not None:
            return kept
        fault = next((one for one in self.faults if one.call == call and one.times), None)
        if fault is not None:
            return await self._fail(fault, request, params, key, text)
        status, body = self._answer(call, request, params)
        self._keep(key, request.path + text, status, body)
        return _response(status, body)

    async def _fail(
        self, fault: Fault, request: web.Request, params: dict[str, Any], key: str | None, text: str
    ) -> web.Response:
        fault.times -= 1
        call = self.calls[-1]
        if fault.has_effect:
            status, body = self._answer(call, request, params)
            if fault.answer is None:
                self._keep(key, request.path + text, status, body)
        if fault.answer is None:
            assert request.transport is not None
            request.transport.close()
            await asyncio.sleep(0)
            return web.Response(status=500)
        body = {"error": {"type": "api_error", "message": "something is wrong at Stripe"}}
        if fault.answer >= 500 and fault.kept:
            self._keep(key, request.path + text, fault.answer, body)
        return _response(fault.answer, body)

    def _kept(self, key: str, given: str) -> web.Response | None:
        at, before, status, body = self._keys.get(key, (0.0, "", 0, {}))
        if not status or self.now - at >= KEY_MEMORY_SECONDS:
            return None
        if before != given:
            said = "Keys for idempotent requests can only be used with the same parameters"
            return _response(400, {"error": {"type": "idempotency_error", "message": said}})
        return _response(status, body, replayed=True)

    def _keep(self, key: str | None, given: str, status: int, body: dict[str, Any]) -> None:
        # What was refused before anything was done is not kept.
        if key is not None and status not in (400, 404, 409, 429):
            self._keys[key] = (self.now, given, status, json.loads(json.dumps(body)))

    def _name(self, method: str, path: str) -> str:
        parts = path.removeprefix("/v1/").split("/")
        what = "/".join(parts[:1] + parts[2:]) if len(parts) > 1 else parts[0]
        one = ":id" if len(parts) == 2 else ""
        return f"{method} {what}{one}"

    def _answer(
        self, call: str, request: web.Request, params: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        parts = request.path.removeprefix("/v1/").split("/")
        id_ = parts[1] if len(parts) > 1 else ""
        money = self.money(call, id_, params, request.query, int(self.now))
        if money is not None:
            return money
        if (call, id_) == ("GET customers:id", "search"):
            found = [x for x in self.customers.values() if _searched(x, request.query["query"])]
            return 200, _list(found)
        if call == "POST customers:id":
            self.customers[id_] |= params
            return self._found(self.customers, id_)
        return self._of_account(call, id_, request, params)

    def _of_account(
        self, call: str, id_: str, request: web.Request, params: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        match call:
            case "POST customers":
                return 200, self._made("customer", "cus", self.customers, params)
            case "GET customers":
                return 200, _list([x for x in self.customers.values() if self._asked(x, request)])
            case "GET customers:id":
                return self._found(self.customers, id_)
            case "POST invoices":
                if self.refuses is not None:
                    return _refused("resource_missing", self.refuses)
                given = {"status": "draft", "attempted": False, "collected": None, **params}
                made = self._made("invoice", "in", self.invoices, given)
                self.lines[made["id"]] = []
                return 200, self._shown(made["id"])
            case "GET invoices":
                found = [x for x in self.invoices if self._asked(self.invoices[x], request)]
                return 200, _list([self._shown(x) for x in found])
            case "POST checkout:id" | "POST billing_portal:id":
                return 200, {
                    "id": f"cs_{next(self._numbers)}", "created": int(self.now), "livemode": False,
                    "setup_intent": "seti_1", "url": "https://stripe.example", **params,
                }  # fmt: skip
            case "GET account:id" | "GET account":
                return 200, {"id": "acct_1", "object": "account"}
        if id_ not in self.invoices:
            return _refused("resource_missing", f"No such invoice: '{id_}'", 404)
        return self._of_invoice(call, id_, params)

    def _of_invoice(
        self, call: str, id_: str, params: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        invoice = self.invoices[id_]
        status = invoice["status"]
        match call, status:
            case "GET invoices:id", _:
                return 200, self._shown(id_)
            case "GET invoices/lines", _:
                return 200, _list(self.lines[id_])
            case "POST invoices/add_lines", "draft":
                for line in params["lines"]:
                    number = f"il_{next(self._numbers)}"
                    self.lines[id_].append({"id": number, "object": "line_item", **line})
                return 200, self._shown(id_)
            case "POST invoices/finalize", "draft":
                invoice["status"] = "open" if self._total(id_) > 0 else "paid"
                return 200, self._shown(id_)
            case "POST invoices/pay", "open":
                invoice["paid_with"] = params.get("payment_method")
                return self._pay(id_)
            case "POST invoices/send", "open":
                self.sent.append(id_)
                return 200, self._shown(id_)
            case "POST invoices/void", "open" | "uncollectible":
                invoice["status"] = "void"
                return 200, self._shown(id_)
            case "DELETE invoices:id", "draft":
                del self.invoices[id_]
                return 200, {"id": id_, "object": "invoice", "deleted": True}
        return _refused("invalid", f"{call} of an invoice that is {status}")

    def _pay(self, id_: str) -> tuple[int, dict[str, Any]]:
        invoice = self.invoices[id_]
        if self.declines == "none":
            return _refused("missing", "There is no `default_payment_method` set")
        invoice["attempted"] = True
        if self.declines is not None:
            action = self.declines == "action"
            invoice["intent"] = "requires_action" if action else "requires_payment_method"
            return 402, _error("card_error", "card_declined", "Your card was declined.")
        self.take_payment(id_)
        return 200, self._shown(id_)

    def invoice_for(self, stripe_id: str) -> dict[str, Any] | None:
        """The final invoice, with its total."""
        return self._shown(stripe_id) if stripe_id in self.invoices else None

    def settle(self, stripe_id: str) -> None:
        """Nothing is owed any more."""
        self.invoices[stripe_id]["status"] = "paid"

    def paid_of(self, payment: str) -> int:
        """How much was paid with a payment."""
        return sum(amount for id_, amount in self.payments if f"pi_{id_}" == payment)

    def take_payment(self, id_: str) -> None:
        """The customer has paid, there and then."""
        self.invoices[id_] |= {"status": "paid", "attempted": True, "intent": "succeeded"}
        self.payments.append((id_, self.owed(id_)))

    def _made(
        self, kind: str, prefix: str, where: dict[str, dict[str, Any]], params: dict[str, Any]
    ) -> dict[str, Any]:
        id_ = f"{prefix}_{next(self._numbers)}"
        where[id_] = {"id": id_, "object": kind, "created": int(self.now), **params}
        return where[id_]

    def _found(self, where: dict[str, dict[str, Any]], id_: str) -> tuple[int, dict[str, Any]]:
        if id_ in where:
            return 200, where[id_]
        return _refused("resource_missing", f"No such thing: '{id_}'", 404)

    def _asked(self, one: dict[str, Any], request: web.Request) -> bool:
        asked = request.query
        if "customer" in asked and one.get("customer") != asked["customer"]:
            return False
        least, most = asked.get("created[gte]", 0), asked.get("created[lte]", 1e12)
        return bool(float(least) <= one["created"] <= float(most))

    def _total(self, id_: str) -> int:
        return self.surcharge + sum(int(line["amount"]) for line in self.lines[id_])

    def _shown(self, id_: str) -> dict[str, Any]:
        invoice = self.invoices[id_]
        intent = {"id": f"pi_{id_}", "status": invoice.get("intent", "requires_payment_method")}
        payment = {"payment": {"payment_intent": intent}, "is_default": True}
        payments = [] if invoice["status"] == "draft" else [payment]
        return invoice | {"total": self._total(id_), "payments": _list(payments)}

    def event(self, type_: str, invoice: str, number: int | None = None) -> bytes:
        """The body of a webhook about an invoice."""
        return self.event_of(type_, self._shown(invoice), number)

    def event_of(self, type_: str, about: dict[str, Any], number: int | None = None) -> bytes:
        """The body of a webhook about anything."""
        return json.dumps(
            {
                "id": f"evt_{number or next(self._numbers)}",
                "object": "event",
                "type": type_,
                "created": int(time.time()),
                "livemode": False,
                "data": {"object": about},
            }
        ).encode()


def signed(body: bytes, secret: str = SECRET, at: int | None = None) -> str:
    """The header that Stripe sends with a body."""
    header: str = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, at or int(time.time())
    )
    return header


@asynccontextmanager
async def fake_stripe() -> AsyncIterator[FakeStripe]:
    """One that listens on loopback."""
    fake = FakeStripe()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake


def _response(status: int, body: dict[str, Any], *, replayed: bool = False) -> web.Response:
    headers = {"Request-Id": "req_1"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return web.json_response(body, status=status, headers=headers)


def _error(kind: str, code: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, "message": message}}


def _refused(code: str, message: str, status: int = 400) -> tuple[int, dict[str, Any]]:
    return status, _error("invalid_request_error", code, message)


def _list(data: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": False, "url": "/v1/things"}


def _searched(one: dict[str, Any], query: str) -> bool:
    """Whether it has the one thing that is searched for: `metadata['name']:'value'`."""
    name, value = query.removeprefix("metadata['").removesuffix("'").split("']:'")
    return bool(one.get("metadata", {}).get(name) == value)


def _nested(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """`lines[0][amount]=5` as Stripe reads it."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        steps = name.replace("]", "").split("[")
        at = found
        for step in steps[:-1]:
            at = at.setdefault(step, {})
        at[steps[-1]] = value
    return {name: _listed(value) for name, value in found.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(member) for name, member in value.items()}
    if inner and all(name.isdecimal() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner
