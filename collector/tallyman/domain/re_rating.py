"""Rating a customer's past periods again by other prices: which price each rate card gets.

A final invoice stays as it is: billing puts the difference on the next, or on a credit note.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tallyman.domain.billable import needs_usage
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rate_card_rules import rate_card_rules
from tallyman.errors import InvalidInput, InvalidParameter


@dataclass(frozen=True)
class ReRating:
    """A record that never changes: who had service periods that begin in `period` rated again, why,
    and by which rate card each billable is rated since."""

    id: str
    namespace: str
    customer_id: str
    period: Period
    reason: str
    actor: str
    created_at: datetime
    cards: Mapping[str, RateCard]


def cards_of(plan: Plan) -> dict[tuple[str, str], RateCard]:
    """The rate cards of a plan by the keys of their phase and their own."""
    return {(phase.key, card.key): card for phase in plan.phases for card in phase.rate_cards}


def repriced(card: RateCard, by: RateCard) -> RateCard:
    """The rate card at the price of another: what is counted, and when it is due, stays.

    Raises:
        InvalidInput: the price needs usage, and the card counts none, or the other way round; or it
            breaks a rule of rate cards.
    """
    made = replace(
        card,
        price=by.price,
        unit_config=by.unit_config,
        commitments=by.commitments,
        discounts=by.discounts,
    )
    if needs_usage(made) != needs_usage(card):
        reason = f"of {card.key} is by usage, and the other is not"
        raise InvalidInput(f"the price {reason}", [InvalidParameter("prices", "invalid", reason)])
    broken = [
        InvalidParameter(f"prices.{card.key}.{rule.field}", rule.code, rule.message)
        for rule in set(rate_card_rules(made)) - set(rate_card_rules(card))
    ]
    if broken:
        raise InvalidInput(f"{broken[0].field}: {broken[0].reason}", broken)
    return made
