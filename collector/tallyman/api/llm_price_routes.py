"""The part of the route table that is about what models cost, and what is earned with them."""

from typing import Final

from tallyman.api import feature_cost, llm_prices, margins
from tallyman.api.feature_cost import FeatureCostResult
from tallyman.api.llm_price_bodies import (
    CreateOverrideRequest,
    DecisionRequest,
    HeldPriceAnswer,
    HeldPrices,
    PriceAnswer,
    PricePage,
)
from tallyman.api.meter_bodies import MeterQueryRequest
from tallyman.api.meter_query import CSV
from tallyman.api.route import JSON, Answered, Route
from tallyman.billing.margin_report import LossesAnswer, MarginAnswer
from tallyman.domain.access import Scope

PRICE: Final = {JSON: PriceAnswer}
HELD: Final = {JSON: HeldPriceAnswer}
TEXT: Final = {"type": "string"}

ROUTES: Final = (
    Route(
        "POST", "/features/{featureId}/cost/query", feature_cost.query, Scope.READ,
        "query-feature-cost", "Ask what a feature's usage cost you",
        Answered(200, "The costs.", {JSON: FeatureCostResult, CSV: TEXT}),
        "By the feature's unit cost, at the price in force at each event's time. What has no price "
        "is a row of its own, whose cost is null.",
        body={JSON: MeterQueryRequest}, body_required=False, problems=(404, 410, 413),
    ),
    Route(
        "GET", "/llm-cost/prices", llm_prices.list_, Scope.READ,
        "list-llm-cost-prices", "List what models cost",
        Answered(200, "A page of prices.", {JSON: PricePage}),
        parameters=llm_prices.LIST,
    ),
    Route(
        "GET", "/llm-cost/prices/{priceId}", llm_prices.get, Scope.READ,
        "get-llm-cost-price", "Read a price",
        Answered(200, "The price.", PRICE), problems=(404, 410),
    ),
    Route(
        "GET", "/llm-cost/overrides", llm_prices.list_overrides, Scope.READ,
        "list-llm-cost-overrides", "List overrides of prices",
        Answered(200, "A page of overrides.", {JSON: PricePage}),
        parameters=llm_prices.LIST,
    ),
    Route(
        "POST", "/llm-cost/overrides", llm_prices.create_override, Scope.ADMIN,
        "create-llm-cost-override", "Override a price",
        Answered(201, "The override.", PRICE),
        "It goes before the lists' price; of several that hold, the one that began last counts.",
        body={JSON: CreateOverrideRequest}, problems=(409, 413),
    ),
    Route(
        "DELETE", "/llm-cost/overrides/{priceId}", llm_prices.delete_override, Scope.ADMIN,
        "delete-llm-cost-override", "Take an override back",
        Answered(204, "It is deleted: the lists' price holds, also for what was used before."),
        problems=(404, 410),
    ),
    Route(
        "GET", "/api/v1/llm-cost/held", llm_prices.list_held, Scope.READ,
        "list-held-prices", "List prices that wait for a decision",
        Answered(200, "The prices.", {JSON: HeldPrices}),
        "A list says otherwise than the one in force, by more than 1 %.", openmeter=False,
    ),
    Route(
        "POST", "/api/v1/llm-cost/held/{heldId}/accept", llm_prices.accept, Scope.ADMIN,
        "accept-held-price", "Put a price that waits in force",
        Answered(200, "The price.", HELD),
        body={JSON: DecisionRequest}, body_required=False,
        problems=(404, 409, 413), openmeter=False,
    ),
    Route(
        "POST", "/api/v1/llm-cost/held/{heldId}/reject", llm_prices.reject, Scope.ADMIN,
        "reject-held-price", "Keep the price that is in force",
        Answered(200, "The price.", HELD), problems=(404, 409), openmeter=False,
    ),
    Route(
        "GET", "/api/v1/billing/margin", margins.get, Scope.READ,
        "margin", "Revenue less what the providers took for it",
        Answered(200, "The margin.", {JSON: MarginAnswer}),
        "By customer, model, feature or month; invoiced and not yet billed said apart, and each "
        "currency by itself.",
        parameters=margins.MarginParameters(), openmeter=False,
    ),
    Route(
        "GET", "/api/v1/billing/losses", margins.get_losses, Scope.READ,
        "losses", "Rate cards that make a loss at today's prices",
        Answered(200, "The rate cards, and with whom.", {JSON: LossesAnswer}),
        openmeter=False,
    ),
    Route(
        "GET", "/margin", margins.page, Scope.READ,
        "margin-page", "The page of the margin",
        Answered(200, "The page.", {margins.HTML: TEXT}),
        parameters=margins.MarginParameters(), openmeter=False, basic=True,
    ),
)  # fmt: skip
