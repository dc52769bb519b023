"""The body of `GET /api/usage`: what a consumer may know of its own usage."""

from pydantic import Field

from tallyman.api.wire import Answer, Numeric, Time, Ulid


class UsagePeriod(Answer):
    """The time that is counted, half-open."""

    from_: Time = Field(alias="from")
    to: Time


class UsageCustomer(Answer):
    """Who pays for the consumer's usage."""

    id: Ulid
    key: str
    name: str


class UsageNobody(Answer):
    """Why nobody pays for it; the codes are those of `GET /events`."""

    code: str
    message: str


class UsageSubscription(Answer):
    """What it is paid by."""

    id: Ulid
    plan_key: str
    plan_version: int


class UsageOfModel(Answer):
    """The tokens of one model and type."""

    model: str
    type: str
    tokens: Numeric


class FeatureLeft(Answer):
    """What is left of a feature to the customer: all its consumers share it.

    `left` and `limit` are absent where there is no limit.
    """

    feature_key: str
    has_access: bool
    used: Numeric
    limit: Numeric | None = None
    left: Numeric | None = None
    period: UsagePeriod


class CostLine(Answer):
    """What one item of the plan has come to; `quantity` is absent for a flat price."""

    name: str
    feature_key: str | None = None
    quantity: Numeric | None = None
    amount: Numeric


class Cost(Answer):
    """What this period costs the customer so far, as far as it is on no invoice yet."""

    currency: str
    amount: Numeric
    lines: list[CostLine]


class ConsumerUsageAnswer(Answer):
    """This period's usage of a consumer; the period is its customer's, else the calendar month.

    `left` and `cost` are the customer's, and absent where it has no subscription.
    """

    subject: str
    customer: UsageCustomer | None = None
    unattributed: UsageNobody | None = None
    subscription: UsageSubscription | None = None
    period: UsagePeriod
    calls: Numeric
    tokens: Numeric
    usage: list[UsageOfModel]
    left: list[FeatureLeft] | None = None
    cost: Cost | None = None
