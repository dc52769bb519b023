"""The history of an entitlement: what was used in each window, and how balances were burned down.

It is counted when it is asked for. What may be used now is `entitlement_account.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from tallyman.billing.entitlement_account import Account
from tallyman.billing.entitlement_granted import Granted, granted_since, grants_to
from tallyman.domain.counting import Metered, subject_periods
from tallyman.domain.entitlement_grant import Burned, burned, parts_of
from tallyman.domain.entitlement_period import serving
from tallyman.domain.event import LATEST
from tallyman.domain.money import EXACT, total
from tallyman.domain.period import Period
from tallyman.errors import NotFound
from tallyman.store.entitlement_sql import Share
from tallyman.store.entitlement_usage import EntitlementUsage

NOTHING = Decimal(0)


@dataclass(frozen=True)
class Window:
    """What was used in a window, and what was left as it began."""

    period: Period
    usage: Decimal
    balance_at_start: Decimal


@dataclass(frozen=True)
class History:
    """By window, and by what grants and resets made of it."""

    windows: tuple[Window, ...]
    burned: tuple[Burned, ...]


async def history(
    usage: EntitlementUsage,
    account: Account,
    feature_key: str,
    metered: Metered,
    windows: Sequence[Period],
    now: datetime,
) -> History:
    """What became of the entitlement in the windows, which follow one another.

    Raises:
        NotFound: no subscription serves it now.
    """
    subscription = serving(account.definition.subscriptions, now)
    if subscription is None:
        raise NotFound(f"the customer is not entitled to a feature {feature_key}")
    first, last = windows[0].from_, windows[-1].to
    definition = account.definition
    theirs = [x.effective_at for x in grants_to(definition, subscription, feature_key)]
    until = min(last - timedelta(microseconds=1), now)
    given = granted_since(definition, subscription, feature_key, min([first, *theirs]), until)
    cuts = [first, last, now, *(window.from_ for window in windows)]
    parts = parts_of(given.allowances, given.grants, cuts)
    counted = await _count(usage, account, metered, [x for x in parts if x.from_ < min(last, now)])
    every = burned(given.allowances, given.grants, lambda x: counted.get(x, NOTHING), cuts)
    inside = [x for x in every if first <= x.period.from_ and x.period.to <= min(last, now)]
    return History(tuple(_window(one, inside) for one in windows), tuple(_joined(given, inside)))


async def _count(
    usage: EntitlementUsage, account: Account, metered: Metered, parts: Sequence[Period]
) -> dict[Period, Decimal]:
    shares = [
        Share(number, subject, share)
        for number, part in enumerate(parts)
        for subject, share in subject_periods(account.definition.spans, part)
    ]
    found = await usage.count([metered], shares) if shares else {}
    return {parts[number]: values[0] for number, values in found.items()}


def _window(window: Period, parts: Sequence[Burned]) -> Window:
    mine = [x for x in parts if window.from_ <= x.period.from_ and x.period.to <= window.to]
    balance = total(mine[0].at_start.values()) if mine else NOTHING
    return Window(window, total(x.usage for x in mine), balance)


def _joined(given: Granted, parts: Sequence[Burned]) -> list[Burned]:
    """Without the cuts that are the windows' alone: those of resets and grants are left."""
    own = {x.counted.from_ for x in given.allowances}
    own |= {at for at in given.bounds if at < LATEST}
    found: list[Burned] = []
    for one in parts:
        if not found or one.period.from_ in own:
            found.append(one)
            continue
        before = found[-1]
        used = dict(before.used)
        for key, amount in one.used.items():
            used[key] = EXACT.add(used.get(key, NOTHING), amount)
        found[-1] = Burned(
            Period(before.period.from_, one.period.to),
            EXACT.add(before.usage, one.usage),
            before.at_start,
            one.at_end,
            used,
            one.overage,
        )
    return found


def windows_of(from_: datetime, to: datetime, size: str, zone: ZoneInfo, most: int) -> list[Period]:
    """The whole windows from the one that holds `from_` to the one that holds `to`, or one too many
    of them."""
    local = from_.astimezone(zone)
    match size:
        case "MINUTE":
            begin = local.replace(second=0, microsecond=0)
        case "HOUR":
            begin = local.replace(minute=0, second=0, microsecond=0)
        case _:
            begin = local.replace(hour=0, minute=0, second=0, microsecond=0)
    step = {"MINUTE": timedelta(minutes=1), "HOUR": timedelta(hours=1)}.get(size)
    found: list[Period] = []
    at = begin.astimezone(from_.tzinfo)
    while at < to and len(found) <= most:
        if step is None:  # the next midnight of the place, however long its day is
            day = at.astimezone(zone)
            after = (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
            following = after.astimezone(from_.tzinfo)
        else:
            following = at + step
        found.append(Period(at, following))
        at = following
    return found
