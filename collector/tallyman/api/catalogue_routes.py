"""The part of the route table that is about what is sold: features, plans, and their file.

What the handlers do is `features.py`'s and `plans.py`'s.
"""

from typing import Final

from tallyman.api import features, plans
from tallyman.api.catalogue import backtest, run
from tallyman.api.catalogue.change import Outcome
from tallyman.api.feature_bodies import (
    CreatedFeatureAnswer,
    CreateFeatureRequest,
    FeatureAnswer,
    FeaturePage,
    UpdateFeatureRequest,
)
from tallyman.api.plan_bodies import (
    CreatePlanRequest,
    PlanAnswer,
    PlanPage,
    PublishedPlanAnswer,
    UpsertPlanRequest,
)
from tallyman.api.route import JSON, Answered, Route
from tallyman.domain.access import Scope

FEATURE: Final = {JSON: FeatureAnswer}
PLAN: Final = {JSON: PlanAnswer}

ROUTES: Final = (
    Route(
        "POST", "/features", features.create, Scope.ADMIN,
        "create-feature", "Make a feature",
        Answered(201, "The feature.", {JSON: CreatedFeatureAnswer}),
        "The meter must be there, and have the dimensions of the filters.",
        body={JSON: CreateFeatureRequest}, problems=(409, 413),
    ),
    Route(
        "GET", "/features", features.list_, Scope.READ,
        "list-features", "List features",
        Answered(200, "A page of features.", {JSON: FeaturePage}),
        parameters=features.LIST,
    ),
    Route(
        "GET", "/features/{featureId}", features.get, Scope.READ,
        "get-feature", "Read a feature",
        Answered(200, "The feature.", FEATURE), problems=(404, 410),
    ),
    Route(
        "PATCH", "/features/{featureId}", features.update, Scope.ADMIN,
        "update-feature", "Change a feature's unit cost",
        Answered(200, "The feature.", FEATURE),
        "Null takes it away.",
        body={JSON: UpdateFeatureRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "DELETE", "/features/{featureId}", features.delete, Scope.ADMIN,
        "delete-feature", "Archive a feature",
        Answered(204, "It is archived; its key is free, and what was billed for it stays."),
        "A feature of a plan in force cannot be archived.",
        problems=(404, 409, 410),
    ),
    Route(
        "POST", "/api/v1/catalogue/compare", run.answer_compare, Scope.ADMIN,
        "compare-catalogue", "Show what a catalogue's file would change, and whose invoice",
        Answered(200, "The changes.", {JSON: Outcome}),
        "What `tallyman diff` shows. Nothing is changed.",
        body={JSON: run.CompareRequest}, problems=(409, 413), openmeter=False,
    ),
    Route(
        "POST", "/api/v1/catalogue/backtest", backtest.answer_backtest, Scope.ADMIN,
        "backtest-catalogue", "Show what a month would have brought with a catalogue's file",
        Answered(200, "Each customer.", {JSON: backtest.BacktestAnswer}),
        "What `tallyman backtest` shows. Nothing is changed.",
        body={JSON: backtest.BacktestRequest}, problems=(409, 413), openmeter=False,
    ),
    Route(
        "POST", "/plans", plans.create, Scope.ADMIN,
        "create-plan", "Make a draft of a plan",
        Answered(201, "The draft.", PLAN),
        "It is the next version, if there is a plan with the key. `validation_errors` are what "
        "keeps it from being published.",
        body={JSON: CreatePlanRequest}, problems=(409, 413),
    ),
    Route(
        "GET", "/plans", plans.list_, Scope.READ,
        "list-plans", "List versions of plans",
        Answered(200, "A page of versions.", {JSON: PlanPage}),
        parameters=plans.LIST,
    ),
    Route(
        "GET", "/plans/{planId}", plans.get, Scope.READ,
        "get-plan", "Read a version of a plan",
        Answered(200, "The version.", PLAN), problems=(404, 410),
    ),
    Route(
        "PUT", "/plans/{planId}", plans.update, Scope.ADMIN,
        "update-plan", "Put a draft anew",
        Answered(200, "The draft.", PLAN),
        "Only a draft can be changed: a published version never is.",
        body={JSON: UpsertPlanRequest}, problems=(404, 410, 413),
    ),
    Route(
        "DELETE", "/plans/{planId}", plans.delete, Scope.ADMIN,
        "delete-plan", "Delete a version of a plan",
        Answered(204, "It is deleted; its number is not given again."),
        "A version in force cannot be deleted.",
        problems=(404, 410),
    ),
    Route(
        "POST", "/plans/{planId}/publish", plans.publish, Scope.ADMIN,
        "publish-plan", "Put a draft in force",
        Answered(200, "The version in force.", {JSON: PublishedPlanAnswer}),
        "The version that was in force is archived; subscriptions to it go on. `warnings` name rate "
        "cards that sell for less than the providers take today.",
        problems=(404, 410),
    ),
    Route(
        "POST", "/plans/{planId}/archive", plans.archive, Scope.ADMIN,
        "archive-plan", "End a version of a plan",
        Answered(200, "The version.", PLAN),
        "Subscriptions to it go on.",
        problems=(404, 410),
    ),
)  # fmt: skip
