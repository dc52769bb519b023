"""Price lists as files: ours, LiteLLM's `model_prices` and models.dev's `api.json`, told apart by shape.

What a list changes is `price_merge.py`'s.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeGuard

from tallyman.domain.llm_price import PRICED_TYPES, ModelPricing, OfferedPrice
from tallyman.domain.model_name import provider_key
from tallyman.domain.money import EXACT, is_currency
from tallyman.domain.period import in_utc
from tallyman.errors import InvalidInput, InvalidParameter

MILLION: Final = Decimal(1_000_000)
LITELLM: Final = "litellm"
MODELS_DEV: Final = "models.dev"
LONGEST_NAME: Final = 256
MOST_PLACES: Final = 40
MOST_EXPENSIVE: Final = Decimal(1)  # per token: a mistaken unit is far above, every model far below
_LITELLM_MODES: Final = ("chat", "completion", "responses", "embedding")
_LITELLM_FIELDS: Final = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}


@dataclass(frozen=True)
class PriceList:
    """What a file offers; `skipped` are the entries that have no price by the token, or no sense."""

    origin: str
    offered: tuple[OfferedPrice, ...]
    skipped: tuple[str, ...] = ()


def read_price_list(text: str) -> PriceList:
    """The list in a file.

    Raises:
        InvalidInput: it has none of the three shapes, or nothing in it is a price.
    """
    try:
        given = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError) as err:
        raise _refused("must be JSON") from err
    match given:
        case {"prices": list(entries)}:
            read = _read_ours(given, entries)
        case dict() if any(_is_litellm(entry) for entry in given.values()):
            read = _read_litellm(given)
        case dict() if any(_is_models_dev(entry) for entry in given.values()):
            read = _read_models_dev(given)
        case _:
            raise _refused(
                "must be a price list of Tallyman, LiteLLM's model_prices or models.dev's api.json"
            )
    if not read.offered:
        raise _refused("has no price by the token")
    return read


def _is_litellm(entry: Any) -> bool:
    return isinstance(entry, dict) and "litellm_provider" in entry


def _is_models_dev(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("models"), dict)


def _read_ours(given: Mapping[str, Any], entries: list[Any]) -> PriceList:
    per, currency = _number(given.get("per", "1")), given.get("currency", "USD")
    if per is None or per <= 0:
        raise _refused("must have a number above 0 in `per`")
    if not isinstance(currency, str) or not is_currency(currency):
        raise _refused("must have an ISO 4217 currency in `currency`")
    names = given["providers"] if isinstance(given.get("providers"), dict) else {}
    offered: list[OfferedPrice] = []
    skipped: list[str] = []
    for at, entry in enumerate(entries):
        one = None
        if isinstance(entry, dict):
            pricing = _pricing({name: entry.get(name) for name in PRICED_TYPES}, per)
            provider, model = entry.get("provider"), entry.get("model")
            seller = names.get(provider) if isinstance(provider, str) else None
            one = _offer(provider, model, pricing, seller, entry.get("name"))
        if one is None:
            skipped.append(f"prices[{at}]")
            continue
        from_, to = _day(entry.get("from")), _day(entry.get("to"))
        offered.append(replace(one, currency=currency, effective_from=from_, effective_to=to))
    name = given.get("name")
    return PriceList(name if _is_name(name) else "list", tuple(offered), tuple(skipped))


def _read_litellm(given: Mapping[str, Any]) -> PriceList:
    def found() -> Iterator[tuple[str, OfferedPrice | None]]:
        # The name without a prefix is the provider's own, and goes before the others.
        for key in sorted(given, key=lambda key: (key.count("/"), key)):
            entry = given[key]
            if key == "sample_spec" or not _is_litellm(entry):
                continue
            if entry.get("mode", "chat") not in _LITELLM_MODES:
                continue
            costs = {name: entry.get(field) for name, field in _LITELLM_FIELDS.items()}
            costs["output"] = costs["output"] if costs["output"] is not None else Decimal(0)
            provider = provider_key(str(entry["litellm_provider"]))
            first, _, rest = key.partition("/")
            model = rest if rest and provider_key(first) == provider else key
            yield key, _offer(provider, model, _pricing(costs, Decimal(1)))

    return _list(LITELLM, found())


def _read_models_dev(given: Mapping[str, Any]) -> PriceList:
    def found() -> Iterator[tuple[str, OfferedPrice | None]]:
        for provider, seller in given.items():
            if not _is_models_dev(seller):
                continue
            for model, entry in seller["models"].items():
                cost = entry.get("cost") if isinstance(entry, dict) else None
                if not isinstance(cost, dict):
                    continue
                pricing = _pricing({name: cost.get(name) for name in PRICED_TYPES}, MILLION)
                names = seller.get("name"), entry.get("name")
                one = _offer(provider_key(provider), model, pricing, *names)
                released = _day(entry.get("release_date"))
                yield f"{provider}/{model}", one and replace(one, effective_from=released)

    return _list(MODELS_DEV, found())


def _offer(
    provider: Any,
    model: Any,
    pricing: ModelPricing | None,
    provider_name: Any = None,
    model_name: Any = None,
) -> OfferedPrice | None:
    """None where something is missing, or is no name."""
    if pricing is None or not _is_name(provider) or not _is_name(model):
        return None
    seller, called = (x if _is_name(x) else "" for x in (provider_name, model_name))
    return OfferedPrice(provider, model, pricing, provider_name=seller, model_name=called)


def _is_name(given: Any) -> TypeGuard[str]:
    return isinstance(given, str) and 0 < len(given) <= LONGEST_NAME and "\x00" not in given


def _list(origin: str, found: Iterable[tuple[str, OfferedPrice | None]]) -> PriceList:
    """Of two entries for the same model the first counts."""
    offered: dict[tuple[str, str], OfferedPrice] = {}
    skipped = []
    for name, one in found:
        if one is None:
            skipped.append(name)
        else:
            offered.setdefault((one.provider, one.model.lower()), one)
    return PriceList(origin, tuple(offered.values()), tuple(skipped))


def _pricing(costs: Mapping[str, Any], per: Decimal) -> ModelPricing | None:
    """None where a number is missing, negative, none, or too large to be the price of a token."""
    numbers: dict[str, Decimal] = {}
    for name, given in costs.items():
        if given is None:
            continue
        number = _number(given)
        if number is None:
            return None
        price = EXACT.divide(number, per).normalize(EXACT)
        exponent = price.as_tuple().exponent
        if (
            not 0 <= price <= MOST_EXPENSIVE
            or not isinstance(exponent, int)
            or exponent < -MOST_PLACES
        ):
            return None
        numbers[name] = Decimal(f"{price:f}")
    if "input" not in numbers or "output" not in numbers:
        return None
    return ModelPricing(**numbers)


def _number(given: Any) -> Decimal | None:
    if not isinstance(given, str | Decimal):
        return None
    try:
        number = Decimal(given)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _day(given: Any) -> datetime | None:
    """The beginning of a day; a month alone is its first day."""
    if not isinstance(given, str):
        return None
    try:
        moment = datetime.fromisoformat(f"{given}-01" if len(given) == len("2026-11") else given)
    except ValueError:
        return None
    return in_utc(moment)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _refused(reason: str) -> InvalidInput:
    return InvalidInput(f"the file {reason}", [InvalidParameter("text", "invalid", reason)])
