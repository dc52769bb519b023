"""The bodies of the feature routes, as OpenMeter's v3 API has them."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from tallyman.api.meter_bodies import MOST_FILTERED, DimensionFilterBody
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.wire import (
    DIMENSION_NAME,
    NO_NUL,
    Answer,
    Body,
    Description,
    Labels,
    Name,
    Numeric,
    NumericText,
    Resource,
    ResourceKey,
    Ulid,
    by_type,
    tagged,
)
from tallyman.domain.feature import Feature, FeatureMeter, TokenType, UnitCost
from tallyman.domain.feature_document import (
    read_filters,
    read_unit_cost,
    write_filters,
    write_unit_cost,
)
from tallyman.domain.llm_price import LlmPrice
from tallyman.store.llm_price_rows import pricing_document

SellerText = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
DimensionName = Annotated[
    str, Field(min_length=1, max_length=63, json_schema_extra={"pattern": DIMENSION_NAME})
]


class FeatureMeterBody(Body):
    """The meter that counts a feature, or the events of it that pass every filter."""

    id: Ulid
    filters: Annotated[dict[str, DimensionFilterBody], Field(max_length=MOST_FILTERED)] | None = (
        None
    )

    def meter(self) -> FeatureMeter:
        """The meter with its filters, not yet checked against each other."""
        given = self.model_dump(by_alias=True, exclude_unset=True).get("filters")
        return FeatureMeter(self.id, read_filters(given or {}))


class ManualUnitCostBody(Body):
    """What a unit costs the seller, whatever it is."""

    type: Literal["manual"]
    amount: NumericText


class LlmUnitCostBody(Body):
    """What a token costs the seller: each of the three is given, or the dimension that has it."""

    type: Literal["llm"]
    provider: SellerText | None = None
    provider_property: DimensionName | None = None
    model: SellerText | None = None
    model_property: DimensionName | None = None
    token_type: TokenType | None = None
    token_type_property: DimensionName | None = None

    @model_validator(mode="after")
    def _each_is_given_once(self) -> Self:
        for name in ("provider", "model", "token_type"):
            if [getattr(self, name), getattr(self, f"{name}_property")].count(None) != 1:
                raise PydanticCustomError(
                    "unit_cost",
                    "must have either {name} or {name}_property",
                    {"name": name, "rule": "invalid"},
                )
        return self


UnitCostBody: TypeAlias = Annotated[
    Annotated[ManualUnitCostBody, tagged("manual")] | Annotated[LlmUnitCostBody, tagged("llm")],
    by_type("manual", "llm"),
]


class UpdateFeatureRequest(Body):
    """What can be changed of a feature; null takes it away, what is absent stays as it is."""

    unit_cost: UnitCostBody | None = None

    def cost(self) -> UnitCost | None:
        """The unit cost that is given."""
        if self.unit_cost is None:
            return None
        return read_unit_cost(self.unit_cost.model_dump(exclude_none=True))


class CreateFeatureRequest(UpdateFeatureRequest):
    """A new feature. Without a meter it can be sold for a flat price and switched on."""

    key: ResourceKey
    name: Name
    description: Description | None = None
    labels: Labels | None = None
    meter: FeatureMeterBody | None = None


class FeatureMeterAnswer(Answer):
    """The meter that counts a feature, or the events of it that pass every filter."""

    id: Ulid
    filters: dict[str, dict[str, Any]] | None = None


class LlmUnitCostPricing(Answer):
    """What a token costs now, where provider and model are given."""

    input_per_token: Numeric
    output_per_token: Numeric
    cache_read_per_token: Numeric | None = None
    cache_write_per_token: Numeric | None = None
    reasoning_per_token: Numeric | None = None


class LlmUnitCostAnswer(LlmUnitCostBody):
    """What a token costs the seller."""

    pricing: LlmUnitCostPricing | None = None


UnitCostAnswer: TypeAlias = Annotated[
    Annotated[ManualUnitCostBody, tagged("manual")] | Annotated[LlmUnitCostAnswer, tagged("llm")],
    by_type("manual", "llm"),
]


class FeatureAnswer(Resource):
    """A feature."""

    key: ResourceKey
    meter: FeatureMeterAnswer | None = None
    unit_cost: UnitCostAnswer | None = None

    @classmethod
    def of(cls, feature: Feature, price: LlmPrice | None = None) -> Self:
        """The feature on the wire, with the price in force of the one model that it names."""
        priced: dict[str, Any] = {}
        if price is not None:
            amounts = pricing_document(price.pricing).items()
            priced["pricing"] = {f"{name}_per_token": amount for name, amount in amounts}
        meter, cost = feature.meter, feature.unit_cost
        return cls.model_validate(
            {
                **{name: value for name, value in vars(feature).items() if name != "namespace"},
                "meter": meter
                and FeatureMeterAnswer(id=meter.id, filters=write_filters(meter.filters) or None),
                "unit_cost": cost and write_unit_cost(cost) | priced,
            }
        )


class FeatureWarning(Answer):
    """What may be a mistake, and is none to the API."""

    field: str
    message: str


class CreatedFeatureAnswer(FeatureAnswer):
    """A feature that was just made. `warnings` name filters that no event of late passes."""

    warnings: list[FeatureWarning] | None = None

    @classmethod
    def created(cls, feature: Feature, warnings: list[FeatureWarning]) -> Self:
        """The feature on the wire."""
        return cls.of(feature).model_copy(update={"warnings": warnings or None})


class FeaturePage(Answer):
    """A page of features."""

    data: list[FeatureAnswer]
    meta: PaginatedMeta
