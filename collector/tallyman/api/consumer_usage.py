"""`GET /api/usage`: this period's usage of one consumer, for the consumer to see.

The gateway says who asks, by the headers of its authentication; or an API key names the subject.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from multidict import MultiMapping
from tallyman_kong.usage import UsageConfiguration, consumer_subject

from tallyman.api.consumer_usage_bodies import (
    ConsumerUsageAnswer,
    Cost,
    CostLine,
    FeatureLeft,
    UsageCustomer,
    UsageNobody,
    UsageOfModel,
    UsagePeriod,
    UsageSubscription,
)
from tallyman.api.parameters import LONGEST_VALUE
from tallyman.api.route import JSON
from tallyman.api.state import (
    BOOKS,
    CALLER,
    CUSTOMERS,
    ENTITLEMENTS,
    EVENTS,
    METERS,
    NOW,
    SUBSCRIPTIONS,
    USAGE,
)
from tallyman.billing.preview import preview
from tallyman.domain.attribution import Nobody, owner_of
from tallyman.domain.customer import Customer, SubjectSpan
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.meter import DimensionFilter, MeterQuery, MeterRow
from tallyman.domain.meter_query import SUBJECT
from tallyman.domain.money import total
from tallyman.domain.period import Period, month_of
from tallyman.domain.subscription import Subscription
from tallyman.errors import Forbidden, InvalidInput, InvalidParameter

TOKENS: Final = "kong_konnect_llm_tokens"
CALLS: Final = "tallyman_llm_calls"

# Kong's authentication sets these, and takes away what the client sent under their names.
_CONSUMER: Final = {
    "username": "X-Consumer-Username",
    "custom_id": "X-Consumer-Custom-ID",
    "id": "X-Consumer-ID",
}
_ANONYMOUS: Final = "X-Anonymous-Consumer"


class UsageParameters:
    """The query of `GET /api/usage`."""

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        schema = {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_VALUE,
            "pattern": r"^[^\x00]+$",
        }
        about = "The consumer; absent, and refused, where the gateway's headers say who asks."
        subject = {"name": "subject", "in": "query", "required": True, "description": about}
        return [{**subject, "schema": schema}]


@dataclass(frozen=True)
class _Account:
    """Whose usage it is, for which time; `counted` is the part in which the subject was theirs."""

    owner: Customer | Nobody
    subscription: Subscription | None
    period: Period
    counted: Period


async def get(request: web.Request) -> web.Response:
    """The usage of the consumer that asks, or that is asked about."""
    subject = subject_of(request.headers, request.query, request.app[USAGE])
    account = await _account(request, subject)
    tokens = await _ask(request, TOKENS, ("model", "type"), subject, account)
    calls = await _ask(request, CALLS, (), subject, account)
    owner, subscription = account.owner, account.subscription
    now = request[NOW]
    answer = ConsumerUsageAnswer(
        subject=subject,
        customer=UsageCustomer(id=owner.id, key=owner.key, name=owner.name)
        if isinstance(owner, Customer)
        else None,
        unattributed=UsageNobody(code=owner.reason, message=owner.message)
        if isinstance(owner, Nobody)
        else None,
        subscription=None
        if subscription is None
        else UsageSubscription(
            id=subscription.id,
            plan_key=subscription.plan_key,
            plan_version=subscription.plan_version,
        ),
        period=UsagePeriod(from_=account.period.from_, to=account.period.to),
        calls=total(row.value for row in calls),
        tokens=total(row.value for row in tokens),
        usage=[
            UsageOfModel(
                model=row.dimensions["model"], type=row.dimensions["type"], tokens=row.value
            )
            for row in tokens
        ],
        left=None if subscription is None else _left(request, subscription),
        cost=None
        if subscription is None
        else await _cost(request, subscription, account.period, now),
    )
    response = web.Response(body=answer.to_json(), content_type=JSON)
    response.headers["Cache-Control"] = "no-store"
    return response


def subject_of(
    headers: Mapping[str, str], query: MultiMapping[str], usage: UsageConfiguration
) -> str:
    """Whose usage is asked for: the consumer's that the gateway names, else the query's. Pure.

    Raises:
        Forbidden: the gateway let in somebody that it does not know.
        InvalidInput: neither names one, or both do.
    """
    for name in query:
        if name != "subject":
            raise _wrong(name, "unknown_property", "is not known")
    if headers.get(_ANONYMOUS, "").lower() == "true":
        raise Forbidden("the gateway does not know who asks")
    if _CONSUMER["id"] in headers:
        if "subject" in query:
            raise _wrong("subject", "invalid", "must be absent: the gateway says who asks")
        return _consumer(headers, usage)
    given = query.getall("subject", [])
    if len(given) > 1:
        raise _wrong("subject", "invalid", "is given twice")
    if not given or not (subject := given[0]):
        raise _wrong("subject", "required", "is required")
    if len(subject) > LONGEST_VALUE or "\x00" in subject:
        raise _wrong("subject", "invalid", "is no subject")
    return subject


def _consumer(headers: Mapping[str, str], usage: UsageConfiguration) -> str:
    """The subject that the plugin gives the consumer's calls."""
    if usage.subject_from != "consumer":
        raise _wrong(
            "subject",
            "required",
            f"is required: the plugin makes it of the {usage.subject_from}, not of the consumer",
        )
    consumer = {field: headers.get(name) for field, name in _CONSUMER.items()}
    subject = consumer_subject(consumer, usage.subject_field)
    if subject is None:
        raise Forbidden("the gateway does not know who asks")
    return subject


async def _account(request: web.Request, subject: str) -> _Account:
    now, namespace = request[NOW], request[CALLER].namespace
    owners = (await request.app[CUSTOMERS].owners(namespace, [subject])).get(subject, [])
    owner = owner_of(subject, now, owners)
    month = month_of(now.date(), UTC)
    if isinstance(owner, Nobody):
        return _Account(owner, None, month, month)
    [customer] = await request.app[CUSTOMERS].with_ids(namespace, [owner])
    subscription = await _subscription(request, namespace, owner, now)
    period = month if subscription is None else subscription.current_period_at(now) or month
    [span] = [span for id_, span in owners if id_ == owner and span.holds(now)]
    return _Account(customer, subscription, period, _within(period, span))


async def _subscription(
    request: web.Request, namespace: str, customer_id: str, now: datetime
) -> Subscription | None:
    found = await request.app[SUBSCRIPTIONS].of_customers(namespace, [customer_id])
    served = (one for one in found[customer_id] if one.current_period_at(now) is not None)
    return next(served, None)


def _within(period: Period, span: SubjectSpan) -> Period:
    """The part of the period in which the subject was the customer's."""
    begin = period.from_ if span.from_ is None else max(period.from_, span.from_)
    return Period(begin, period.to)


def _left(request: web.Request, subscription: Subscription) -> list[FeatureLeft] | None:
    """What is left of each metered feature, as it was last counted; None before the first time."""
    counters = request.app[ENTITLEMENTS]
    account = counters.find(subscription.namespace, subscription.customer_id)
    if counters.counted(subscription.namespace) is None or account is None:
        return None
    found = []
    for key, entitled in sorted(account.entitled.items()):
        metered, metering = entitled.entitlement, entitled.metering
        if metering is None or not isinstance(metered, MeteredEntitlement):
            continue
        access, period = account.access(key), metering.usage_period
        found.append(
            FeatureLeft(
                feature_key=key,
                has_access=access.has_access,
                used=access.usage,
                limit=metered.limit,
                left=access.balance,
                period=UsagePeriod(from_=period.from_, to=period.to),
            )
        )
    return found


async def _cost(
    request: web.Request, subscription: Subscription, period: Period, now: datetime
) -> Cost:
    """What the period has come to; what is left over from earlier ones is no part of it."""
    invoices = await preview(
        request.app[BOOKS], subscription.namespace, subscription.customer_id, now
    )
    lines = [
        line
        for invoice in invoices
        for line in invoice.lines
        if line.subscription_id == subscription.id and line.service_period.to > period.from_
    ]
    return Cost(
        currency=subscription.currency,
        amount=total(line.totals.total for line in lines),
        lines=[
            CostLine(
                name=line.name,
                feature_key=line.rate_card.feature.key if line.rate_card.feature else None,
                quantity=line.raw_quantity,
                amount=line.totals.total,
            )
            for line in lines
        ],
    )


async def _ask(
    request: web.Request, key: str, group_by: tuple[str, ...], subject: str, account: _Account
) -> list[MeterRow]:
    meter = await request.app[METERS].get(request[CALLER].namespace, key)
    query = MeterQuery(
        from_=account.counted.from_,
        to=account.counted.to,
        group_by=group_by,
        filters=(DimensionFilter(SUBJECT, "eq", (subject,)),),
    )
    return await request.app[EVENTS].query(meter, query)


def _wrong(name: str, rule: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{name} {reason}", [InvalidParameter(name, rule, reason, "query")])
