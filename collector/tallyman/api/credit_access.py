"""What customers who pay by credit alone may still use: looked up, never counted in a request.

How much is left is `billing/credit_watch.py`'s.
"""

from typing import Any, Final

from aiohttp import web

from tallyman.api.state import CLOCK, CREDIT_WATCH, NOW, SETTINGS
from tallyman.billing.entitlement_account import Account
from tallyman.domain.entitlement import NoAccessReason
from tallyman.domain.entitlement_period import serving
from tallyman.domain.price import FreePrice

GRANTED: Final = {"has_access": True}
_LOOKS: Final = 4  # so many looks may be missed before nobody knows how much credit is left


def paid_for(request: web.Request, account: Account, found: dict[str, Any]) -> dict[str, Any]:
    """What may be used still may where credit alone pays for it, and is left."""
    subscription = serving(account.definition.subscriptions, request[NOW])
    if subscription is None or subscription.settlement_mode != "credit_only":
        return found
    watch, interval = request.app[CREDIT_WATCH], request.app[SETTINGS].credit_interval_seconds
    age = watch.age(request.app[CLOCK]())
    longest = max(_LOOKS * interval, request.app[SETTINGS].entitlements_max_age_seconds)
    if not interval or age is None or age.total_seconds() > longest:
        message = "it is not known how much credit is left"
        refused: dict[str, Any] = {"code": "unknown", "message": message}
    elif watch.live(subscription.customer_id, subscription.currency) > 0:
        return found
    else:
        reason = NoAccessReason.NO_CREDIT_AVAILABLE
        refused = {"code": str(reason), "message": "no credit is left"}
    priced = {
        item.rate_card.key
        for phase in subscription.phases
        for item in phase.items
        if not isinstance(item.rate_card.price, FreePrice)
    }
    return {
        key: {"has_access": False, "reason": refused} if key in priced and one is GRANTED else one
        for key, one in found.items()
    }
