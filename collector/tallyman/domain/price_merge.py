"""What a list would change in the prices that are in force: new ones, changes, and contradictions.

It keeps nothing: `store/llm_prices.py` does what is decided here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

from tallyman.domain.llm_price import HeldPrice, LlmPrice, ModelPricing, OfferedPrice
from tallyman.domain.model_name import provider_key
from tallyman.domain.price_list import PriceList

TOLERANCE: Final = Decimal("0.01")  # two sources that differ by more contradict each other

Verdict = Literal["new", "changed", "completed", "held", "refused", "unchanged"]


@dataclass(frozen=True)
class Proposal:
    """What becomes of one price of a list.

    `new` and `changed` take effect; `completed` adds types that had no price of their own; `held`
    waits for a decision and `refused` was decided before: the price in force stays.
    """

    verdict: Verdict
    offered: OfferedPrice
    origin: str
    in_force: LlmPrice | None = None


def propose(
    prices: Sequence[LlmPrice], held: Iterable[HeldPrice], offer: PriceList, now: datetime
) -> list[Proposal]:
    """What the list changes in the prices of lists; overrides are not its business.

    A change within one list is that list's own; where another list is in force, a difference of more
    than 1 % in any type is held.
    """
    by_key: dict[tuple[str, str], list[LlmPrice]] = {}
    for one in prices:
        if one.source == "system":
            by_key.setdefault(_key(one.provider, one.model), []).append(one)
    rejected = {
        (_key(one.offered.provider, one.offered.model), one.origin, one.offered.pricing)
        for one in held
        if one.state == "rejected"
    }
    proposals = []
    for offered in offer.offered:
        key = _key(offered.provider, offered.model)
        known = by_key.get(key, [])
        in_force = in_force_at(known, _moment(offered, now))
        verdict = _verdict(offered, offer.origin, in_force)
        if verdict == "held" and (key, offer.origin, offered.pricing) in rejected:
            verdict = "refused"
        proposals.append(Proposal(verdict, offered, offer.origin, in_force))
    return proposals


def in_force_at(known: Iterable[LlmPrice], moment: datetime) -> LlmPrice | None:
    """Of those that hold, the last to begin."""
    holding = [one for one in known if one.is_in_force(moment)]
    return max(holding, key=lambda x: (x.effective_from, x.created_at, x.id), default=None)


def differs(old: ModelPricing, new: ModelPricing, by: Decimal = TOLERANCE) -> bool:
    """Whether a type that both have a price for differs by more than the part `by` of the larger."""
    priced = dict(new.given())
    return any(
        abs(priced[name] - price) > by * max(price, priced[name])
        for name, price in old.given()
        if name in priced
    )


def completed(one: ModelPricing, other: ModelPricing) -> ModelPricing:
    """The first prices, with those of the second for types that the first has none for."""
    return ModelPricing(**{**dict(other.given()), **dict(one.given())})


def _verdict(offered: OfferedPrice, origin: str, in_force: LlmPrice | None) -> Verdict:
    if in_force is None:
        return "new"
    old, new = in_force.pricing, offered.pricing
    if in_force.origin == origin and in_force.currency == offered.currency:
        return "unchanged" if completed(new, old) == old else "changed"
    if in_force.currency != offered.currency or differs(old, new):
        return "held" if in_force.origin != origin else "changed"
    return "unchanged" if completed(old, new) == old else "completed"


def _moment(offered: OfferedPrice, now: datetime) -> datetime:
    """What is offered for a time that is over is compared with what held then."""
    is_over = offered.effective_to is not None and offered.effective_to <= now
    return offered.effective_from or now if is_over else now


def _key(provider: str, model: str) -> tuple[str, str]:
    return provider_key(provider), model.strip().lower()
