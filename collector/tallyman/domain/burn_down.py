"""Which grants pay for what: pure, and the same whatever order grants come in.

It books nothing: see `credit_ledger.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tallyman.domain.credit import CreditGrant
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period

ZERO = Decimal(0)


@dataclass(frozen=True)
class Demand:
    """What must be paid for, such as an invoice line."""

    id: str
    amount: Decimal
    service_period: Period
    feature_key: str | None = None


@dataclass(frozen=True)
class Draw:
    """So much of a grant pays for a demand."""

    grant_id: str
    demand_id: str
    amount: Decimal


def burn_down(
    grants: Iterable[CreditGrant],
    available: Mapping[str, Decimal],
    demands: Sequence[Demand],
    now: datetime,
) -> list[Draw]:
    """Pay for the demands, in their order, from what is available of each grant, by its id.

    Grants are used in the order of their priority, then by which expires first, then by which began
    first. Nothing is paid more than it costs, and no grant gives more than it has.
    """
    left = {demand.id: demand.amount for demand in demands}
    draws = []
    for grant in sorted(grants, key=lambda grant: grant.order):
        rest = available.get(grant.id, ZERO)
        for demand in demands:
            amount = min(rest, left[demand.id])
            if amount <= 0 or not grant.pays(demand.feature_key, demand.service_period, now):
                continue
            draws.append(Draw(grant.id, demand.id, amount))
            rest = EXACT.subtract(rest, amount)
            left[demand.id] = EXACT.subtract(left[demand.id], amount)
    return draws


def taken_from(
    grants: Iterable[CreditGrant], available: Mapping[str, Decimal], amount: Decimal
) -> dict[str, Decimal]:
    """How much is taken of each grant to make an amount, in the order that they are used in.

    Less than the amount, if there is not so much.
    """
    taken: dict[str, Decimal] = {}
    for grant in sorted(grants, key=lambda grant: grant.order):
        part = min(amount, available.get(grant.id, ZERO))
        if part > 0:
            taken[grant.id] = part
            amount = EXACT.subtract(amount, part)
    return taken


def give_back(
    grants: Iterable[CreditGrant], drawn: Mapping[str, Decimal], amount: Decimal
) -> dict[str, Decimal]:
    """How much each grant gets back of what was drawn from it: the one that was used last first.

    Never more than was drawn.
    """
    back: dict[str, Decimal] = {}
    for grant in sorted(grants, key=lambda grant: grant.order, reverse=True):
        part = min(amount, drawn.get(grant.id, ZERO))
        if part > 0:
            back[grant.id] = part
            amount = EXACT.subtract(amount, part)
    return back
