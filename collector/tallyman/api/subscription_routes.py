"""The part of the route table that is about subscriptions, and what comes with them.

What the handlers do is `subscriptions.py`'s and `entitlements.py`'s.
"""

from typing import Final

from tallyman.api import entitlements, subscriptions
from tallyman.api.entitlement_bodies import (
    AccessQueryAnswer,
    AccessQueryRequest,
    CustomerEntitlementAccessAnswer,
    EntitlementValueAnswer,
    ResetEntitlementRequest,
)
from tallyman.api.new_subscription_bodies import (
    CancelSubscriptionRequest,
    ChangeSubscriptionRequest,
    CreateSubscriptionRequest,
)
from tallyman.api.route import JSON, Answered, Route
from tallyman.api.subscription_bodies import (
    CreatedSubscriptionAnswer,
    SubscriptionAnswer,
    SubscriptionChangeAnswer,
    SubscriptionPage,
)
from tallyman.domain.access import Scope

SUBSCRIPTION: Final = {JSON: SubscriptionAnswer}
ENTITLEMENT: Final = "/api/v2/customers/{customerId}/entitlements/{featureKey}"

ROUTES: Final = (
    Route(
        "POST", "/subscriptions", subscriptions.create, Scope.BILLING,
        "create-subscription", "Begin a subscription",
        Answered(
            201, "The subscription, and what was used before it.", {JSON: CreatedSubscriptionAnswer}
        ),
        "Usage before its start is on no invoice, to the millisecond; `usage_before_start` says how "
        "much that is. A customer has one subscription at a time.",
        body={JSON: CreateSubscriptionRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", "/subscriptions", subscriptions.list_, Scope.READ,
        "list-subscriptions", "List subscriptions",
        Answered(200, "A page of subscriptions.", {JSON: SubscriptionPage}),
        parameters=subscriptions.LIST,
    ),
    Route(
        "GET", "/subscriptions/{subscriptionId}", subscriptions.get, Scope.READ,
        "get-subscription", "Read a subscription",
        Answered(200, "The subscription.", SUBSCRIPTION), problems=(404, 410),
    ),
    Route(
        "DELETE", "/subscriptions/{subscriptionId}", subscriptions.delete, Scope.BILLING,
        "delete-subscription", "Delete a subscription that has not begun",
        Answered(204, "It is deleted."),
        "Tallyman's own; one that has begun is canceled.", problems=(404, 409, 410),
    ),
    Route(
        "POST", "/subscriptions/{subscriptionId}/cancel", subscriptions.cancel, Scope.BILLING,
        "cancel-subscription", "End a subscription",
        Answered(200, "The subscription.", SUBSCRIPTION),
        "At once, unless `timing` says next_billing_cycle or a time.",
        body={JSON: CancelSubscriptionRequest}, body_required=False, problems=(404, 409, 410, 413),
    ),
    Route(
        "POST", "/subscriptions/{subscriptionId}/unschedule-cancelation",
        subscriptions.unschedule_cancelation, Scope.BILLING,
        "unschedule-cancelation", "Take a cancelation back",
        Answered(200, "The subscription.", SUBSCRIPTION), problems=(404, 409, 410),
    ),
    Route(
        "POST", "/subscriptions/{subscriptionId}/change", subscriptions.change, Scope.BILLING,
        "change-subscription", "Go on with another plan",
        Answered(200, "What ends, and what goes on.", {JSON: SubscriptionChangeAnswer}),
        "Billing periods stay where they are, unless another anchor is given.",
        body={JSON: ChangeSubscriptionRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", "/customers/{customerId}/entitlement-access", entitlements.list_access, Scope.READ,
        "list-customer-entitlement-access", "Read what a customer may use",
        Answered(200, "What it is entitled to.", {JSON: CustomerEntitlementAccessAnswer}),
        problems=(404, 410),
    ),
    Route(
        "POST", "/entitlement-access/query", entitlements.query, Scope.READ,
        "query-entitlement-access", "Ask what many customers may use",
        Answered(200, "A page of customers.", {JSON: AccessQueryAnswer}),
        "Nothing is counted for the answer: `updated_at` says as of when counts are. Of a hard limit "
        "whose counts are older than `entitlements_max_age_seconds` the reason is `unknown`.",
        body={JSON: AccessQueryRequest}, parameters=entitlements.QUERY, problems=(413,),
    ),
    Route(
        "GET", f"{ENTITLEMENT}/value", entitlements.value, Scope.READ,
        "get-entitlement-value", "Read how much of an entitlement is left",
        Answered(200, "The value.", {JSON: EntitlementValueAnswer}),
        problems=(404, 410), openmeter=False,
    ),
    Route(
        "POST", f"{ENTITLEMENT}/reset", entitlements.reset, Scope.BILLING,
        "reset-entitlement", "Count an entitlement's usage anew",
        Answered(204, "It is counted from then on."),
        body={JSON: ResetEntitlementRequest}, problems=(404, 410, 413), openmeter=False,
    ),
)  # fmt: skip
