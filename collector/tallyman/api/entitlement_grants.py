"""`/entitlements/{featureKey}/grants`, `/override` and `/history`: what adds to an entitlement.

What may be used now is `entitlements.py`'s.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from aiohttp import web
from ulid import ULID

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.entitlement_grant_bodies import (
    CreateEntitlementGrantRequest,
    EntitlementGrantAnswer,
    EntitlementHistoryAnswer,
    OverrideEntitlementRequest,
)
from tallyman.api.entitlements import account_of
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import (
    CALLER,
    ENTITLEMENT_GRANTS,
    ENTITLEMENT_USAGE,
    ENTITLEMENTS,
    NOW,
    RESETS,
)
from tallyman.api.wire import read_time
from tallyman.billing.entitlement_account import ADDITIVE, Account
from tallyman.billing.entitlement_granted import up_to
from tallyman.billing.entitlement_history import history, windows_of
from tallyman.domain.content_id import content_id
from tallyman.domain.counting import Metered
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.entitlement_grant import EntitlementGrant
from tallyman.domain.entitlement_period import Entitled, EntitlementOverride, Metering, serving
from tallyman.domain.event import EARLIEST, LATEST
from tallyman.domain.service_period import whole_milliseconds
from tallyman.domain.subscription import Subscription
from tallyman.errors import InvalidInput, InvalidParameter, NotFound

MOST_WINDOWS: Final = 1000
SIZES: Final = ("MINUTE", "HOUR", "DAY")


@dataclass(frozen=True)
class _Mine:
    """A metered entitlement that the path names."""

    account: Account
    key: str
    entitled: Entitled
    entitlement: MeteredEntitlement
    metering: Metering
    metered: Metered
    subscription: Subscription

    @property
    def id(self) -> str:
        """An id of its own: entitlements are parts of a subscription."""
        return content_id(self.subscription.created_at, self.subscription.id, self.key)


async def create(request: web.Request) -> web.Response:
    """Add to the allowance."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateEntitlementGrantRequest)
    mine, now = await _mine(request), request[NOW]
    if mine.entitlement.limit is None:
        raise _wrong("featureKey", "has no limit that a grant could add to")
    begins = whole_milliseconds(body.effectiveAt)
    if not mine.metering.counted.from_ <= begins < LATEST:
        at = mine.metering.counted.from_.isoformat()
        raise _wrong("effectiveAt", f"must be from {at} on, where counting began")
    ends = None if body.expiration is None else body.expiration.after(begins)
    if ends is not None and not now < ends < LATEST:
        raise _wrong("expiration", "must be later than now, and not beyond 2199")
    grant = EntitlementGrant(
        id=str(ULID()),
        namespace=request[CALLER].namespace,
        subscription_id=mine.subscription.id,
        feature_key=mine.key,
        amount=Decimal(str(body.amount)),
        effective_at=begins,
        created_at=now,
        updated_at=now,
        priority=body.priority,
        expires_at=ends,
        min_rollover=Decimal(str(body.minRolloverAmount)),
        max_rollover=Decimal(str(body.maxRolloverAmount)),
        metadata=body.metadata or {},
        expiration=None if body.expiration is None else body.expiration.model_dump(),
        recurrence=None if body.recurrence is None else body.recurrence.cadence(begins),
    )
    made = await request.app[ENTITLEMENT_GRANTS].create(grant, by=request[CALLER].actor)
    await request.app[ENTITLEMENTS].catch_up(request[CALLER].namespace)
    return _json(EntitlementGrantAnswer.of(made, mine.id, now).to_json(), 201)


async def list_(request: web.Request) -> web.Response:
    """The grants of an entitlement."""
    parameters.refuse_any(request)
    mine, now = await _mine(request), request[NOW]
    found = await request.app[ENTITLEMENT_GRANTS].of(
        [one.id for one in up_to(mine.account.definition, mine.subscription)], mine.key
    )
    answers = [EntitlementGrantAnswer.of(one, mine.id, now).to_json() for one in found]
    return _json(msgspec.json.encode([msgspec.Raw(one) for one in answers]))


async def void(request: web.Request) -> web.Response:
    """Take what is left of a grant out of use."""
    parameters.refuse_any(request)
    await request.app[ENTITLEMENT_GRANTS].void(
        request[CALLER].namespace,
        path_text(request, "grantId"),
        request[NOW],
        by=request[CALLER].actor,
    )
    await request.app[ENTITLEMENTS].catch_up(request[CALLER].namespace)
    return web.Response(status=204)


async def override(request: web.Request) -> web.Response:
    """Give the customer a limit of its own."""
    parameters.refuse_any(request)
    body = await read_body(request, OverrideEntitlementRequest)
    mine = await _mine(request)
    if body.featureKey not in (None, mine.key):
        raise _wrong("featureKey", f"must be {mine.key}, or absent")
    if body.isUnlimited is (body.issueAfterReset is not None):
        said = "must be absent" if body.isUnlimited else "is required"
        raise _wrong("issueAfterReset", f"{said} where isUnlimited is {body.isUnlimited}".lower())
    limit = None if body.issueAfterReset is None else Decimal(str(body.issueAfterReset))
    made = EntitlementOverride(
        mine.subscription.id, mine.key, request[NOW], limit, body.isSoftLimit
    )
    caller = request[CALLER]
    await request.app[ENTITLEMENT_GRANTS].override(caller.namespace, made, by=caller.actor)
    await request.app[ENTITLEMENTS].catch_up(request[CALLER].namespace)
    return web.Response(status=204)


async def list_history(request: web.Request) -> web.Response:
    """What was used in each window, and how the balances were burned down."""
    asked = HISTORY.read(request)
    mine, now = await _mine(request), request[NOW]
    begin = asked.from_ or mine.metering.counted.from_
    end = min(asked.to or now, now)
    earliest = mine.subscription.active_from
    begin = max(begin, earliest)
    if begin >= end:
        raise _wrong("from", "must be before to, and before now", "query")
    windows = windows_of(begin, end, asked.size, asked.zone, MOST_WINDOWS)
    if len(windows) > MOST_WINDOWS:
        raise _wrong("windowSize", f"makes more than {MOST_WINDOWS} windows", "query")
    found = await history(
        request.app[ENTITLEMENT_USAGE], mine.account, mine.key, mine.metered, windows, now
    )
    return _json(EntitlementHistoryAnswer.of(found).to_json())


@dataclass(frozen=True)
class HistoryQuery:
    """What is asked of a history."""

    size: str
    zone: ZoneInfo
    from_: datetime | None = None
    to: datetime | None = None


class HistoryParameters:
    """Reads the query parameters of a history, and describes them."""

    def read(self, request: web.Request) -> HistoryQuery:
        """Read the query string.

        Raises:
            InvalidInput: a parameter is not known or wrong; names it.
        """
        given = dict(request.query)
        for name in request.query:
            if name not in ("from", "to", "windowSize", "windowTimeZone"):
                raise _wrong(name, "is not known", "query", "unknown_property")
        size = given.get("windowSize")
        if size not in SIZES:
            raise _wrong("windowSize", f"must be one of {', '.join(SIZES)}", "query", "enum")
        try:
            zone = ZoneInfo(given.get("windowTimeZone", "UTC"))
        except (ZoneInfoNotFoundError, ValueError, OSError) as err:
            raise _wrong("windowTimeZone", "is no IANA time zone", "query") from err
        return HistoryQuery(size, zone, _time(given, "from"), _time(given, "to"))

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        moment = {"type": "string", "format": "date-time"}
        schemas: dict[str, tuple[bool, dict[str, Any]]] = {
            "windowSize": (True, {"type": "string", "enum": list(SIZES)}),
            "windowTimeZone": (False, {"type": "string", "default": "UTC"}),
            "from": (False, moment),
            "to": (False, moment),
        }
        return [
            {"name": name, "in": "query", "required": required, "schema": schema}
            for name, (required, schema) in schemas.items()
        ]


HISTORY: Final = HistoryParameters()


def _time(given: dict[str, str], name: str) -> datetime | None:
    if name not in given:
        return None
    try:
        found = read_time(given[name].replace(" ", "+"))
    except ValueError as err:
        raise _wrong(name, str(err), "query", "is_date_time") from err
    if not EARLIEST <= found < LATEST:
        raise _wrong(name, "must be from 1970 to 2199", "query")
    return found


async def _mine(request: web.Request) -> _Mine:
    """The metered entitlement that the path names.

    Raises:
        NotFound: the customer has no such entitlement.
        InvalidInput: it is not metered, or its meter's values cannot be burned down.
    """
    account, key = await account_of(request), path_text(request, "featureKey")
    entitled = account.entitled.get(key)
    subscription = serving(account.definition.subscriptions, request[NOW])
    if entitled is None or subscription is None:
        raise NotFound(f"the customer is not entitled to a feature {key}")
    if entitled.metering is None or not isinstance(entitled.entitlement, MeteredEntitlement):
        raise _wrong("featureKey", f"{key} is not metered")
    metered = await request.app[RESETS].metered(account, entitled.feature_id)
    if metered is None or metered.meter.aggregation not in ADDITIVE:
        raise _wrong("featureKey", f"{key} is not counted by a sum or a count")
    return _Mine(
        account, key, entitled, entitled.entitlement, entitled.metering, metered, subscription
    )


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type=JSON)


def _wrong(field: str, reason: str, source: str = "body", rule: str = "invalid") -> InvalidInput:
    return InvalidInput(f"{field} {reason}", [InvalidParameter(field, rule, reason, source)])
