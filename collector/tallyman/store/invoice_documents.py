"""Invoice lines as JSON, and back, to the last digit. Pure.

It is how the store keeps them; what the API shows is written elsewhere.
"""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from tallyman.domain.duration import Duration
from tallyman.domain.entitlement import BooleanEntitlement, MeteredEntitlement, StaticEntitlement
from tallyman.domain.invoice_line import CreditApplied, InvoiceLine, TierUsed, Totals
from tallyman.domain.period import Period
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard, TaxConfig
from tallyman.domain.rating.detailed_line import DetailedLine
from tallyman.domain.usage import Usage

# The classes of a union are told apart by their names.
_PRICES: Final = (FreePrice, FlatPrice, UnitPrice, GraduatedPrice, VolumePrice)
_ENTITLEMENTS: Final = (MeteredEntitlement, StaticEntitlement, BooleanEntitlement)


class _Tagged(msgspec.Struct):
    type: str
    value: Any


class _Card(msgspec.Struct, omit_defaults=True):
    key: str
    name: str
    price: _Tagged
    feature: FeatureReference | None = None
    billing_cadence: Duration | None = None
    payment_term: PaymentTerm = PaymentTerm.IN_ARREARS
    unit_config: UnitConfig | None = None
    commitments: Commitments | None = None
    discounts: Discounts | None = None
    entitlement: _Tagged | None = None
    tax_config: TaxConfig | None = None
    currency: str | None = None
    description: str | None = None
    labels: dict[str, str] = {}


class _Line(msgspec.Struct, omit_defaults=True):
    id: str
    billable_id: str
    name: str
    currency: str
    service_period: Period
    full_service_period: Period
    rate_card: msgspec.Raw
    totals: Totals
    detailed_lines: tuple[DetailedLine, ...]
    subscription_id: str
    phase_id: str
    item_id: str
    plan_id: str
    plan_key: str
    plan_version: int
    raw_quantity: Decimal | None = None
    discounted_quantity: Decimal = Decimal(0)
    invoiced_quantity: Decimal | None = None
    unit_price: Decimal | None = None
    tiers: tuple[TierUsed, ...] = ()
    usage: Usage | None = None
    version: int = 1
    corrects: str | None = None
    share: str = "1"
    credits_applied: tuple[CreditApplied, ...] = ()
    let_off: Decimal = Decimal(0)
    forgiven: Decimal = Decimal(0)


_LINE_FIELDS: Final = tuple(
    name for name in _Line.__struct_fields__ if name not in ("rate_card", "share")
)
_READER: Final = msgspec.json.Decoder(_Line)


def write_lines(lines: Iterable[InvoiceLine]) -> list[str]:
    """Each line as JSON; a rate card that several lines have is written once."""
    cards: dict[int, tuple[RateCard, msgspec.Raw]] = {}
    texts = []
    for line in lines:
        card = line.rate_card
        if id(card) not in cards:
            cards[id(card)] = card, msgspec.Raw(msgspec.json.encode(_write_card(card)))
        values = {name: getattr(line, name) for name in _LINE_FIELDS}
        body = _Line(rate_card=cards[id(card)][1], share=str(line.share), **values)
        texts.append(msgspec.json.encode(body).decode())
    return texts


def read_lines(texts: Iterable[str]) -> list[InvoiceLine]:
    """The lines; those with the same rate card share it."""
    cards: dict[bytes, RateCard] = {}
    lines = []
    for text in texts:
        body = _READER.decode(text)
        raw = bytes(body.rate_card)
        if raw not in cards:
            cards[raw] = _read_card(msgspec.json.decode(raw, type=_Card))
        values = {name: getattr(body, name) for name in _LINE_FIELDS}
        lines.append(InvoiceLine(rate_card=cards[raw], share=Fraction(body.share), **values))
    return lines


def write_card(card: RateCard) -> str:
    """A rate card as JSON."""
    return msgspec.json.encode(_write_card(card)).decode()


def read_card(text: str) -> RateCard:
    """The rate card of `write_card`."""
    return _read_card(msgspec.json.decode(text, type=_Card))


def document(value: Any) -> Any:
    """A value of the domain as what JSON can hold; numbers as text."""
    return msgspec.to_builtins(value)


def _write_card(card: RateCard) -> _Card:
    values = {name: getattr(card, name) for name in _Card.__struct_fields__}
    values["price"] = _tagged(card.price)
    values["entitlement"] = None if card.entitlement is None else _tagged(card.entitlement)
    return _Card(**values)


def _read_card(body: _Card) -> RateCard:
    values = {name: getattr(body, name) for name in _Card.__struct_fields__}
    values["price"] = _untagged(body.price, _PRICES)
    values["entitlement"] = body.entitlement and _untagged(body.entitlement, _ENTITLEMENTS)
    values["commitments"] = body.commitments or Commitments()
    values["discounts"] = body.discounts or Discounts()
    return RateCard(**values)


def _tagged(value: Any) -> _Tagged:
    return _Tagged(type(value).__name__, value)


def _untagged(given: _Tagged, classes: tuple[type, ...]) -> Any:
    [found] = [one for one in classes if one.__name__ == given.type]
    return msgspec.convert(given.value, found)
