"""What a plan must keep to: each broken rule with its code and field, all of them at once.

It does not know what a rate card must keep to: see `rate_card_rules.py`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from tallyman.domain.duration import Duration
from tallyman.domain.money import is_currency
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rate_card_rules import BrokenRule, Severity, rate_card_rules


def broken_rules(
    currency: str, cadence: Duration, phases: Sequence[PlanPhase]
) -> tuple[BrokenRule, ...]:
    """Every rule that a plan of these breaks, in the order of the plan."""
    return tuple(_plan(currency, cadence, phases))


def _plan(currency: str, cadence: Duration, phases: Sequence[PlanPhase]) -> Iterator[BrokenRule]:
    if not is_currency(currency):
        message = f"{currency} is not an ISO 4217 currency"
        yield BrokenRule("currency_invalid", message, "currency", Severity.CRITICAL)
    if not cadence.at_least_an_hour:
        message = "the billing cadence must be at least 1 hour"
        yield BrokenRule(
            "billing_cadence_invalid_value", message, "billing_cadence", Severity.CRITICAL
        )
    if not phases:
        yield BrokenRule("plan_with_no_phases", "a plan needs a phase", "phases")
    repeated = _repeated(phase.key for phase in phases)
    for index, phase in enumerate(phases):
        at = f"phases[{index}]"
        if phase.key in repeated:
            message = f"another phase has the key {phase.key} too"
            yield BrokenRule("plan_phase_duplicated_key", message, f"{at}.key", Severity.CRITICAL)
        for rule in _phase(phase, currency, cadence, is_last=index == len(phases) - 1):
            yield rule.under(at)


def _phase(
    phase: PlanPhase, currency: str, cadence: Duration, *, is_last: bool
) -> Iterator[BrokenRule]:
    if is_last and phase.duration is not None:
        message = "the last phase lasts as long as the subscription: it has no duration"
        yield BrokenRule("plan_has_last_phase_with_duration", message, "duration")
    elif not is_last and phase.duration is None:
        message = "only the last phase can be without a duration"
        yield BrokenRule("plan_has_non_last_phase_with_no_duration", message, "duration")
    elif phase.duration is not None and not phase.duration.at_least_an_hour:
        message = "the duration must be at least 1 hour"
        yield BrokenRule("plan_phase_duration_less_then_an_hour", message, "duration")
    if not phase.rate_cards:
        message = "a phase needs a rate card"
        yield BrokenRule("plan_phase_has_no_rate_cards", message, "rate_cards")
    repeated = _repeated(card.key for card in phase.rate_cards)
    for index, card in enumerate(phase.rate_cards):
        at = f"rate_cards[{index}]"
        if card.key in repeated:
            message = f"another rate card of the phase has the key {card.key} too"
            yield BrokenRule("rate_card_duplicated_key", message, f"{at}.key", Severity.CRITICAL)
        if card.currency not in (None, currency):
            message = f"the currency must be that of the plan, {currency}"
            at_currency = f"{at}.currency"
            yield BrokenRule(
                "invoice_line_currency_mismatch", message, at_currency, Severity.CRITICAL
            )
        for rule in (*rate_card_rules(card), *_alignment(card, cadence)):
            yield rule.under(at)


def _alignment(card: RateCard, cadence: Duration) -> Iterator[BrokenRule]:
    own = card.billing_cadence
    if own is None or own.is_zero or cadence.is_zero:
        return
    if not own.fits(cadence) and not cadence.fits(own):
        message = f"{own} and the plan's cadence {cadence} must be whole multiples of each other"
        yield BrokenRule("rate_card_billing_cadence_unaligned", message, "billing_cadence")


def _repeated(keys: Iterator[str]) -> set[str]:
    return {key for key, count in Counter(keys).items() if count > 1}
