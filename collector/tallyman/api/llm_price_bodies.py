"""The bodies of the routes of what models cost, as OpenMeter's v3 API has them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.wire import NO_NUL, Answer, Body, Name, Numeric, NumericText, Time, Ulid
from tallyman.domain.llm_price import HeldPrice, LlmPrice, ModelPricing, PriceSource
from tallyman.domain.money import is_currency
from tallyman.domain.price_list import MOST_EXPENSIVE
from tallyman.store.llm_price_rows import pricing_document


def _check_price(text: str) -> str:
    if text.startswith("-"):
        raise PydanticCustomError("price", "must not be negative", {"rule": "min", "minimum": 0})
    if Decimal(text) > MOST_EXPENSIVE:
        reason = "must be the price of one token, and at most 1"
        raise PydanticCustomError("price", reason, {"rule": "max", "maximum": 1})
    return text


def _check_currency(code: str) -> str:
    if not is_currency(code):
        raise PydanticCustomError(
            "currency", "must be an ISO 4217 currency that money is owed in", {"rule": "invalid"}
        )
    return code


TokenPrice = Annotated[NumericText, AfterValidator(_check_price)]
CurrencyCode = Annotated[
    str, StringConstraints(pattern=r"^[A-Z]{3}$"), AfterValidator(_check_currency)
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]


class PricingBody(Body):
    """What one token costs, by type. One without a price of its own costs what input costs, and a
    reasoning token what output costs."""

    input_per_token: TokenPrice
    output_per_token: TokenPrice
    cache_read_per_token: TokenPrice | None = None
    cache_write_per_token: TokenPrice | None = None
    reasoning_per_token: TokenPrice | None = None

    def pricing(self) -> ModelPricing:
        """The prices that are given."""
        given = self.model_dump(exclude_none=True)
        return ModelPricing(
            **{name.removesuffix("_per_token"): Decimal(text) for name, text in given.items()}
        )


class CreateOverrideRequest(Body):
    """What a model costs you, in place of what the lists say."""

    provider: Id
    model_id: Id
    model_name: Name | None = None
    pricing: PricingBody
    currency: CurrencyCode
    effective_from: Time
    effective_to: Time | None = None

    @field_validator("effective_to")
    @classmethod
    def _ends_after_it_begins(cls, ends: datetime | None, given: ValidationInfo) -> datetime | None:
        begins = given.data.get("effective_from")
        if ends is not None and begins is not None and ends <= begins:
            raise PydanticCustomError("period", "must be after effective_from", {"rule": "invalid"})
        return ends


class DecisionRequest(Body):
    """From when on an accepted price holds; by default from now."""

    effective_from: Time | None = None


class ProviderAnswer(Answer):
    """Who sells a model."""

    id: str
    name: str


class ModelAnswer(Answer):
    """A model."""

    id: str
    name: str


class PricingAnswer(Answer):
    """What one token costs, by type."""

    input_per_token: Numeric
    output_per_token: Numeric
    cache_read_per_token: Numeric | None = None
    cache_write_per_token: Numeric | None = None
    reasoning_per_token: Numeric | None = None

    @classmethod
    def of(cls, pricing: ModelPricing) -> Self:
        """The prices on the wire."""
        return cls.model_validate(
            {f"{name}_per_token": price for name, price in pricing_document(pricing).items()}
        )


class PriceAnswer(Answer):
    """A price, in force in [effective_from, effective_to)."""

    id: Ulid
    provider: ProviderAnswer
    model: ModelAnswer
    pricing: PricingAnswer
    currency: str
    source: PriceSource
    effective_from: Time
    effective_to: Time | None = None
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, price: LlmPrice) -> Self:
        """The price on the wire."""
        return cls(
            id=price.id,
            provider=ProviderAnswer(id=price.provider, name=price.provider_name or price.provider),
            model=ModelAnswer(id=price.model, name=price.model_name or price.model),
            pricing=PricingAnswer.of(price.pricing),
            currency=price.currency,
            source=price.source,
            effective_from=price.effective_from,
            effective_to=price.effective_to,
            created_at=price.created_at,
            updated_at=price.updated_at,
        )


class PricePage(Answer):
    """A page of prices."""

    data: list[PriceAnswer]
    meta: PaginatedMeta


class HeldPriceAnswer(Answer):
    """A price of a list that contradicts the one in force, which stays until someone decides."""

    id: Ulid
    provider: str
    model: str
    list: str
    offered: PricingAnswer
    currency: str
    in_force: PriceAnswer | None = None
    state: Literal["open", "accepted", "rejected"]
    created_at: Time
    decided_at: Time | None = None
    decided_by: str | None = None

    @classmethod
    def of(cls, held: HeldPrice, in_force: LlmPrice | None = None) -> Self:
        """The price on the wire."""
        return cls(
            id=held.id,
            provider=held.offered.provider,
            model=held.offered.model,
            list=held.origin,
            offered=PricingAnswer.of(held.offered.pricing),
            currency=held.offered.currency,
            in_force=None if in_force is None else PriceAnswer.of(in_force),
            state=held.state,
            created_at=held.created_at,
            decided_at=held.decided_at,
            decided_by=held.decided_by,
        )


class HeldPrices(Answer):
    """Every price that waits for a decision."""

    data: list[HeldPriceAnswer]


def moment_of(given: DecisionRequest | None) -> datetime | None:
    """From when on, if it is said."""
    return None if given is None else given.effective_from
