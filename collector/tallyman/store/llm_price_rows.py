"""Prices of models as rows, and back. Pure."""

from typing import Any

import msgspec
from sqlalchemy import Row

from tallyman.domain.llm_price import HeldPrice, LlmPrice, ModelPricing, OfferedPrice


def pricing_document(pricing: ModelPricing) -> dict[str, str]:
    """The types that have a price, as numbers in text."""
    return {name: format(price, "f") for name, price in pricing.given()}


def price_values(price: LlmPrice) -> dict[str, Any]:
    """The columns of a price."""
    return {
        "id": price.id,
        "namespace": price.namespace,
        "provider_id": price.provider,
        "provider_name": price.provider_name or price.provider,
        "model_id": price.model,
        "model_name": price.model_name or price.model,
        "pricing": pricing_document(price.pricing),
        "currency": price.currency,
        "source": price.source,
        "origin": price.origin,
        "effective_from": price.effective_from,
        "effective_to": price.effective_to,
        "created_at": price.created_at,
        "updated_at": price.updated_at,
    }


def price_of(row: Row[Any]) -> LlmPrice:
    """The price of a row."""
    return LlmPrice(
        id=row.id,
        namespace=row.namespace,
        provider=row.provider_id,
        provider_name=row.provider_name,
        model=row.model_id,
        model_name=row.model_name,
        pricing=msgspec.convert(row.pricing, ModelPricing),
        currency=row.currency,
        source=row.source,
        origin=row.origin,
        effective_from=row.effective_from,
        effective_to=row.effective_to,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def held_values(held: HeldPrice) -> dict[str, Any]:
    """The columns of a price that waits for a decision."""
    return {**vars(held), "offered": msgspec.to_builtins(held.offered)}


def held_of(row: Row[Any]) -> HeldPrice:
    """The price of a row that waits for a decision."""
    values = dict(row._mapping)
    return HeldPrice(**values | {"offered": msgspec.convert(row.offered, OfferedPrice)})
