"""The part of the route table that is about what adds to entitlements, on OpenMeter's v1 paths.

What the handlers do is `entitlement_grants.py`'s and `entitlements.py`'s.
"""

from collections.abc import Iterator
from typing import Final

from tallyman.api import entitlement_grants, entitlements
from tallyman.api.entitlement_bodies import EntitlementValueAnswer, ResetEntitlementRequest
from tallyman.api.entitlement_grant_bodies import (
    CreateEntitlementGrantRequest,
    EntitlementGrantAnswer,
    EntitlementHistoryAnswer,
    OverrideEntitlementRequest,
)
from tallyman.api.route import JSON, Answered, Route
from tallyman.domain.access import Scope

GRANTS: Final = {
    "type": "array",
    "items": {"$ref": f"#/components/schemas/{EntitlementGrantAnswer.__name__}"},
}
_OF: Final = {
    "customer": "/api/v1/customers/{customerId}/entitlements/{featureKey}",
    "subject": "/api/v1/subjects/{subjectIdOrKey}/entitlements/{featureKey}",
}


def _routes(whose: str, path: str) -> Iterator[Route]:
    of = f"of a {whose}"
    yield Route(
        "GET", f"{path}/value", entitlements.value, Scope.READ,
        f"get-{whose}-entitlement-value", f"Read how much of an entitlement {of} is left",
        Answered(200, "The value.", {JSON: EntitlementValueAnswer}),
        problems=(404, 410), openmeter=False,
    )  # fmt: skip
    yield Route(
        "POST", f"{path}/reset", entitlements.reset, Scope.BILLING,
        f"reset-{whose}-entitlement", f"Count the usage of an entitlement {of} anew",
        Answered(204, "It is counted from then on."),
        body={JSON: ResetEntitlementRequest}, problems=(404, 410, 413), openmeter=False,
    )  # fmt: skip
    yield Route(
        "POST", f"{path}/grants", entitlement_grants.create, Scope.BILLING,
        f"create-{whose}-entitlement-grant", f"Add to the allowance of an entitlement {of}",
        Answered(201, "The grant.", {JSON: EntitlementGrantAnswer}),
        "It begins within what is counted now, or later.",
        body={JSON: CreateEntitlementGrantRequest}, problems=(404, 410, 413), openmeter=False,
    )  # fmt: skip
    yield Route(
        "GET", f"{path}/grants", entitlement_grants.list_, Scope.READ,
        f"list-{whose}-entitlement-grants", f"List what adds to an entitlement {of}",
        Answered(200, "The grants.", {JSON: GRANTS}),
        problems=(404, 410), openmeter=False,
    )  # fmt: skip
    yield Route(
        "PUT", f"{path}/override", entitlement_grants.override, Scope.BILLING,
        f"override-{whose}-entitlement", f"Put another limit in place of the plan's, {of}",
        Answered(204, "It holds from now on; what was used in the period stays used."),
        body={JSON: OverrideEntitlementRequest}, problems=(404, 410, 413), openmeter=False,
    )  # fmt: skip
    yield Route(
        "GET", f"{path}/history", entitlement_grants.list_history, Scope.READ,
        f"get-{whose}-entitlement-history", f"Read how an entitlement {of} was used",
        Answered(200, "By window, and by grant.", {JSON: EntitlementHistoryAnswer}),
        "It is counted when it is asked for.",
        parameters=entitlement_grants.HISTORY, problems=(404, 410), openmeter=False,
    )  # fmt: skip


ROUTES: Final = (
    *(route for whose, path in _OF.items() for route in _routes(whose, path)),
    Route(
        "DELETE", "/api/v1/grants/{grantId}", entitlement_grants.void, Scope.BILLING,
        "void-entitlement-grant", "Void what adds to an entitlement",
        Answered(204, "What is left of it cannot be used any more."),
        problems=(404, 409), openmeter=False,
    ),
)  # fmt: skip
