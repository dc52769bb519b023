"""The prices of one namespace: which holds for a call of a model at a time.

It does not keep them: see `store/llm_prices.py`. It does not sum up costs: see `billing/cost.py`.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from tallyman.domain.llm_price import LlmPrice
from tallyman.domain.model_name import model_keys, provider_key


class PriceBook:
    """Overrides go before lists; of several that hold, the one that began last is in force.

    An override of `gpt-4o` holds for `gpt-4o-2024-08-06` too, unless that has one of its own.
    """

    def __init__(self, prices: Iterable[LlmPrice]) -> None:
        self._by_key: dict[tuple[str, str], list[LlmPrice]] = defaultdict(list)
        for one in prices:
            self._by_key[provider_key(one.provider), one.model.strip().lower()].append(one)
        self._found: dict[tuple[str, str], list[list[LlmPrice]]] = {}

    def price_at(self, provider: str, model: str, moment: datetime) -> LlmPrice | None:
        """What is in force for a call; None where nothing is known."""
        ranked = self._of(provider, model)
        for source in ("manual", "system"):
            for some in ranked:
                holding = [x for x in some if x.source == source and x.is_in_force(moment)]
                if holding:
                    return max(holding, key=lambda x: (x.effective_from, x.created_at, x.id))
        return None

    def changes(
        self, calls: Iterable[tuple[str, str]], from_: datetime | None, to: datetime | None
    ) -> list[datetime]:
        """When, after `from_` and before `to`, the price of one of these models may change."""
        moments = {
            moment
            for provider, model in calls
            for some in self._of(provider, model)
            for one in some
            for moment in (one.effective_from, one.effective_to)
            if moment is not None
        }
        return sorted(
            moment
            for moment in moments
            if (from_ is None or from_ < moment) and (to is None or moment < to)
        )

    def providers_of(self, model: str) -> list[str]:
        """Every provider that has a price for a model of this name."""
        found = {provider for provider, _ in self._by_key}
        return sorted(one for one in found if any(self._of(one, model)))

    def _of(self, provider: str, model: str) -> list[list[LlmPrice]]:
        """The prices by each name that the model may have, the nearest name first."""
        if (provider, model) not in self._found:
            seller = provider_key(provider)
            keys = [(seller, key) for key in model_keys(provider, model)]
            found = [self._by_key[key] for key in keys if key in self._by_key]
            self._found[provider, model] = found
        return self._found[provider, model]
