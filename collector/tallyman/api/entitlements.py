"""What customers may use: looked up in counts that are kept ready, never counted in a request.

Which those are is `billing/entitlement_counters.py`'s.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from tallyman.api import parameters
from tallyman.api.credit_access import GRANTED, paid_for
from tallyman.api.customer_bodies import CustomerAnswer
from tallyman.api.customers import path_text
from tallyman.api.entitlement_bodies import (
    AccessQueryRequest,
    CustomerEntitlementAccessAnswer,
    EntitlementAccessAnswer,
    EntitlementValueAnswer,
    ResetEntitlementRequest,
    UsagePeriodAnswer,
)
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import (
    CALLER,
    CLOCK,
    CUSTOMERS,
    ENTITLEMENTS,
    NOW,
    RESETS,
    SETTINGS,
)
from tallyman.api.wire import write_number, write_time
from tallyman.billing.entitlement_account import Account
from tallyman.billing.entitlement_counters import EntitlementCounters
from tallyman.domain.entitlement import (
    Access,
    BooleanEntitlement,
    MeteredEntitlement,
    NoAccessReason,
    StaticEntitlement,
)
from tallyman.domain.entitlement_period import Entitled
from tallyman.errors import NotFound, Unavailable

QUERY: Final = ListParameters(
    texts=(), sortable=("customer_id",), descending=False, pages="cursor", default_size=100
)
_MESSAGES: Final = {
    NoAccessReason.USAGE_LIMIT_REACHED: "the usage period's limit is reached",
    NoAccessReason.FEATURE_UNAVAILABLE: "no subscription of the customer has the feature now",
    NoAccessReason.FEATURE_NOT_FOUND: "no feature has this key",
    NoAccessReason.NO_CREDIT_AVAILABLE: "no credit is left",
}


async def list_access(request: web.Request) -> web.Response:
    """Everything that the customer is entitled to."""
    parameters.refuse_any(request)
    account = await account_of(request)
    _refuse_old(request, list(account.entitled.values()))
    answer = CustomerEntitlementAccessAnswer(
        data=[
            EntitlementAccessAnswer(
                type=_type(entitled), feature_key=key, has_access=found.has_access,
                config=found.config,
            )
            for key, entitled in sorted(account.entitled.items())
            if (found := account.access(key))
        ]
    )  # fmt: skip
    return web.Response(body=answer.to_json(), content_type=JSON)


async def query(request: web.Request) -> web.Response:
    """What each of the customers may use."""
    asked = QUERY.read(request)
    body = await read_body(request, AccessQueryRequest)
    counters = request.app[ENTITLEMENTS]
    _age(request)
    accounts, matched, errors = await _asked_for(request, body.customer.keys)
    order = sorted(accounts, reverse=asked.descending)
    if (after := asked.after) is not None:
        order = [one for one in order if (one < after if asked.descending else one > after)]
    page = order[: asked.size]
    features = None if body.feature is None else tuple(dict.fromkeys(body.feature.keys))
    is_old = _is_old(request)
    answer = {
        "data": [
            {
                "matched": matched[customer_id],
                "customer": _customer(account),
                "features": paid_for(request, account, found) if body.include_credits else found,
                "updated_at": write_time(
                    counters.counted(request[CALLER].namespace) or request.app[CLOCK]()
                ),
            }
            for customer_id, account in ((one, accounts[one]) for one in page)
            for found in [_features(request, account, features, is_old=is_old)]
        ],
        "errors": errors,
        "meta": {
            "page": {
                "size": asked.size,
                "next": page[-1] if len(order) > len(page) else None,
                "previous": None,
                "first": page[0] if page else None,
                "last": page[-1] if page else None,
            }
        },
    }
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


async def _asked_for(
    request: web.Request, keys: Sequence[str]
) -> tuple[dict[str, Account], dict[str, list[str]], list[dict[str, str]]]:
    """The customers with these keys, by id; what each was found by; and an error for each that is none."""
    counters, namespace = request.app[ENTITLEMENTS], request[CALLER].namespace
    if any(counters.find(namespace, key) is None for key in keys):
        await counters.catch_up(namespace)
    accounts: dict[str, Account] = {}
    matched: dict[str, list[str]] = {}
    errors = []
    for key in dict.fromkeys(keys):
        account = counters.find(namespace, key)
        if account is None:
            message = f"no customer has the key, id or subject {key}"
            errors.append({"code": "customer_not_found", "message": message, "customer": key})
            continue
        customer_id = account.definition.customer.id
        accounts[customer_id] = account
        matched.setdefault(customer_id, []).append(key)
    return accounts, matched, errors


async def value(request: web.Request) -> web.Response:
    """How much of an entitlement is used and left."""
    parameters.refuse_any(request)
    account, feature_key = await account_of(request), path_text(request, "featureKey")
    entitled = account.entitled.get(feature_key)
    if entitled is None:
        raise NotFound(f"the customer is not entitled to a feature {feature_key}")
    _refuse_old(request, [entitled])
    found, metering = account.access(feature_key), entitled.metering
    answer = EntitlementValueAnswer(hasAccess=found.has_access, config=found.config)
    if metering is not None and isinstance(entitled.entitlement, MeteredEntitlement):
        limit, period = entitled.entitlement.limit, metering.usage_period
        answer = EntitlementValueAnswer(
            hasAccess=found.has_access,
            balance=None if found.balance is None else float(found.balance),
            usage=float(found.usage),
            overage=float(found.overage),
            limit=None if limit is None else float(limit),
            usagePeriod=UsagePeriodAnswer(from_=period.from_, to=period.to),
            countedFrom=metering.counted.from_,
            countedAt=request.app[ENTITLEMENTS].counted(request[CALLER].namespace),
        )
    return web.Response(body=answer.to_json(), content_type=JSON)


async def reset(request: web.Request) -> web.Response:
    """Count an entitlement's usage anew."""
    parameters.refuse_any(request)
    body = await read_body(request, ResetEntitlementRequest)
    account = await account_of(request)
    await request.app[RESETS].reset(
        account,
        path_text(request, "featureKey"),
        request[NOW],
        body.effectiveAt,
        retain_anchor=body.retainAnchor,
        preserve_overage=body.preserveOverage,
        by=request[CALLER].actor,
    )
    await request.app[ENTITLEMENTS].catch_up(request[CALLER].namespace)
    return web.Response(status=204)


async def account_of(request: web.Request) -> Account:
    """The account of the customer that the path names, by id or key, or by a subject of its own.

    Raises:
        NotFound: there is no such customer.
        Gone: it was deleted.
        Unavailable: nothing is counted yet.
    """
    counters, namespace = request.app[ENTITLEMENTS], request[CALLER].namespace
    _age(request)
    if "subjectIdOrKey" in request.match_info:
        return await _account_of_subject(counters, namespace, path_text(request, "subjectIdOrKey"))
    name = path_text(request, "customerId")
    account = counters.find(namespace, name)
    if account is None or name not in (
        account.definition.customer.id,
        account.definition.customer.key,
    ):
        await counters.catch_up(namespace)
        customer = await request.app[CUSTOMERS].get(namespace, name)
        account = counters.find(namespace, customer.id)
    if account is None:
        raise Unavailable("the customer's entitlements are not counted yet")
    return account


async def _account_of_subject(
    counters: EntitlementCounters, namespace: str, subject: str
) -> Account:
    account = counters.find(namespace, subject)
    if account is None:
        await counters.catch_up(namespace)
        account = counters.find(namespace, subject)
    if account is None:
        raise NotFound(f"no customer has the subject {subject}")
    return account


def _age(request: web.Request) -> float:
    counted_at = request.app[ENTITLEMENTS].counted(request[CALLER].namespace)
    if counted_at is None:
        raise Unavailable("entitlements are not counted yet")
    return (request.app[CLOCK]() - counted_at).total_seconds()


def _is_old(request: web.Request) -> bool:
    return _age(request) > request.app[SETTINGS].entitlements_max_age_seconds


def _refuse_old(request: web.Request, entitled: list[Entitled]) -> None:
    """Raises Unavailable where a hard limit could be overrun, since nobody counts."""
    if _is_old(request) and any(_has_hard_limit(one) for one in entitled):
        raise Unavailable(f"usage was last counted {_age(request):.0f} s ago")


def _has_hard_limit(entitled: Entitled) -> bool:
    match entitled.entitlement:
        case MeteredEntitlement(limit, is_soft):
            return limit is not None and not is_soft
        case _:
            return False


def _type(entitled: Entitled) -> Any:
    match entitled.entitlement:
        case MeteredEntitlement():
            return "metered"
        case StaticEntitlement():
            return "static"
        case BooleanEntitlement():
            return "boolean"


def _customer(account: Account) -> dict[str, Any]:
    answer = CustomerAnswer.of(account.definition.customer)
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def _features(
    request: web.Request, account: Account, keys: tuple[str, ...] | None, *, is_old: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    known = request.app[ENTITLEMENTS].feature_keys(request[CALLER].namespace)
    for key in sorted(account.entitled) if keys is None else keys:
        if (entitled := account.entitled.get(key)) is None:
            is_known = key in known
            unavailable, missing = (
                NoAccessReason.FEATURE_UNAVAILABLE,
                NoAccessReason.FEATURE_NOT_FOUND,
            )
            found[key] = _refused(unavailable if is_known else missing)
        elif is_old and _has_hard_limit(entitled):
            message = f"usage was last counted {_age(request):.0f} s ago"
            found[key] = {"has_access": False, "reason": {"code": "unknown", "message": message}}
        elif (access := account.access(key)).reason is None:
            found[key] = GRANTED
        else:
            found[key] = _refused(access.reason, access, entitled)
    return found


def _refused(
    reason: NoAccessReason, access: Access | None = None, entitled: Entitled | None = None
) -> dict[str, Any]:
    described: dict[str, Any] = {"code": str(reason), "message": _MESSAGES[reason]}
    if access is not None and entitled is not None and entitled.metering is not None:
        described["attributes"] = {
            "usage": write_number(access.usage),
            "resets_at": write_time(entitled.metering.usage_period.to),
        }
    return {"has_access": False, "reason": described}
