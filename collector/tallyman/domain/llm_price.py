"""What a provider takes for a model's tokens, by type and from when to when.

It does not find the price of a call: see `price_book.py`. No price is written here: lists are data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, get_args

from tallyman.domain.feature import TokenType

PriceSource = Literal["manual", "system"]
PricedType = Literal["input", "output", "cache_read", "cache_write", "reasoning"]

PRICED_TYPES: Final[tuple[PricedType, ...]] = get_args(PricedType)
# What is metered as `request` and `response` is input and output.
_PRICED_AS: Final[dict[str, PricedType]] = {
    "request": "input",
    "response": "output",
    **{name: name for name in PRICED_TYPES},
}
TOKEN_TYPES: Final = frozenset(get_args(TokenType))


@dataclass(frozen=True)
class ModelPricing:
    """Per token. What is None has no price of its own: input's, or of reasoning output's."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None

    def of(self, token_type: str) -> Decimal | None:
        """The price of one token of the type; None if there is no such type."""
        priced_as = _PRICED_AS.get(token_type)
        if priced_as is None:
            return None
        own: Decimal | None = getattr(self, priced_as)
        if own is not None:
            return own
        return self.output if priced_as == "reasoning" else self.input

    def given(self) -> Iterator[tuple[PricedType, Decimal]]:
        """The types that have a price of their own."""
        for name in PRICED_TYPES:
            price: Decimal | None = getattr(self, name)
            if price is not None:
                yield name, price


@dataclass(frozen=True)
class LlmPrice:
    """In force in [effective_from, effective_to). `origin` is the list that it is from."""

    id: str
    namespace: str
    provider: str
    model: str
    pricing: ModelPricing
    currency: str
    source: PriceSource
    origin: str
    effective_from: datetime
    created_at: datetime
    updated_at: datetime
    effective_to: datetime | None = None
    provider_name: str = ""
    model_name: str = ""

    def is_in_force(self, moment: datetime) -> bool:
        """Whether it holds at the moment."""
        return self.effective_from <= moment and (
            self.effective_to is None or moment < self.effective_to
        )


@dataclass(frozen=True)
class OfferedPrice:
    """What a list says that a model costs; without dates, it is what it costs now."""

    provider: str
    model: str
    pricing: ModelPricing
    currency: str = "USD"
    provider_name: str = ""
    model_name: str = ""
    effective_from: datetime | None = None
    effective_to: datetime | None = None


@dataclass(frozen=True)
class HeldPrice:
    """A price that another source contradicts: `in_force` stays until someone decides."""

    id: str
    namespace: str
    offered: OfferedPrice
    origin: str
    in_force: str
    state: Literal["open", "accepted", "rejected"]
    created_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None
