"""The bodies of the entitlement routes: OpenMeter's v3 API, and v2's for a value and a reset."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tallyman.api.customer_bodies import CustomerAnswer, ExternalKey
from tallyman.api.new_subscription_bodies import Moment
from tallyman.api.wire import NO_NUL, Answer, Body, ResourceKey, Time

MOST_KEYS = 100
Key = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]


class EntitlementAccessAnswer(Answer):
    """Whether a feature may be used now; `config` is JSON text."""

    type: Literal["metered", "static", "boolean"]
    feature_key: ResourceKey
    has_access: bool
    config: str | None = None


class CustomerEntitlementAccessAnswer(Answer):
    """Everything that a customer is entitled to."""

    data: list[EntitlementAccessAnswer]


class AccessQueryCustomers(Body):
    """Customers, each by its key, its id or one of its subjects."""

    keys: Annotated[list[ExternalKey], Field(min_length=1, max_length=MOST_KEYS)]


class AccessQueryFeatures(Body):
    """Features, by their keys."""

    keys: Annotated[list[Key], Field(min_length=1, max_length=MOST_KEYS)]


class AccessQueryRequest(Body):
    """Which features which customers may use; without `feature` all that each is entitled to.

    With `include_credits` a customer whose subscription is `credit_only` may use what has a price only
    while credit is left.
    """

    include_credits: bool = False
    customer: AccessQueryCustomers
    feature: AccessQueryFeatures | None = None


class AccessReasonAnswer(Answer):
    """Why a feature may not be used."""

    code: Literal[
        "unknown",
        "usage_limit_reached",
        "feature_unavailable",
        "feature_not_found",
        "no_credit_available",
    ]
    message: str
    attributes: dict[str, Any] | None = None


class FeatureAccessAnswer(Answer):
    """Whether the feature may be used, and why not."""

    has_access: bool
    reason: AccessReasonAnswer | None = None


class AccessQueryResult(Answer):
    """What a customer may use; `matched` are the keys that were asked for."""

    matched: list[str]
    customer: CustomerAnswer
    features: dict[str, FeatureAccessAnswer]
    updated_at: Time


class AccessQueryError(Answer):
    """A key that there is no customer for."""

    code: Literal["customer_not_found", "unknown"]
    message: str
    customer: str | None = None


class AccessCursorPage(Answer):
    """Where the page is."""

    size: int
    next: str | None
    previous: str | None
    first: str | None
    last: str | None


class AccessCursorMeta(Answer):
    """Where the page is."""

    page: AccessCursorPage


class AccessQueryAnswer(Answer):
    """A page of customers with what they may use."""

    data: list[AccessQueryResult]
    errors: list[AccessQueryError]
    meta: AccessCursorMeta


class UsagePeriodAnswer(Answer):
    """[from, to): the usage period, and within it what is counted."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time


class EntitlementValueAnswer(Answer):
    """How much of an entitlement is used and left, in v2's names.

    `limit`, `usagePeriod`, `countedFrom` and `countedAt` are Tallyman's own.
    """

    hasAccess: bool
    balance: float | None = None
    usage: float | None = None
    overage: float | None = None
    config: str | None = None
    limit: float | None = None
    usagePeriod: UsagePeriodAnswer | None = None
    countedFrom: Time | None = None
    countedAt: Time | None = None


class ResetEntitlementRequest(Body):
    """From when on usage is counted anew: now, unless `effectiveAt` says an earlier time.

    Usage periods begin there from then on, unless the anchor is retained. With `preserveOverage`
    what was used beyond the limit counts against the next one.
    """

    effectiveAt: Moment | None = None
    retainAnchor: bool = False
    preserveOverage: bool = False
