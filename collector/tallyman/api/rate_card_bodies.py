"""A rate card as OpenMeter's v3 API has it, in requests and in answers.

What a rate card must keep to beyond its form is `domain/rate_card_rules.py`'s.
"""

import json
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from tallyman.api.customer_bodies import CurrencyCode
from tallyman.api.wire import (
    NO_NUL,
    Body,
    ComputedText,
    Description,
    DurationText,
    Labels,
    Name,
    NumericText,
    ResourceKey,
    Ulid,
    by_type,
    tagged,
)
from tallyman.domain.plan_document import Document
from tallyman.domain.rate_card import PaymentTerm
from tallyman.domain.shown_price import (
    PER_MILLION,
    PER_UNIT,
    both_prices,
    unit_prices,
    with_both_prices,
)

MOST_TIERS = 1000
LARGEST_NUMBER = 1e15  # a JSON number beyond it may lose units

Number = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]


class FeatureReferenceBody(Body):
    """A feature, by its id."""

    id: Ulid


class FreePriceBody(Body):
    """Nothing, whatever the usage."""

    type: Literal["free"]


class FlatPriceBody(Body):
    """An amount once or once per period, whatever the usage."""

    type: Literal["flat"]
    amount: NumericText


class UnitPriceBody(Body):
    """An amount for each unit: per single token, not per thousand or million.

    The other two say the same in other words; they are for reading, and must agree if they are sent.
    """

    type: Literal["unit"]
    amount: NumericText
    amount_per_unit: Annotated[
        ComputedText | None,
        Field(description="Where units are converted: the price of a unit of the meter."),
    ] = None
    amount_per_million: Annotated[
        ComputedText | None, Field(description="The price of 1,000,000 units of the meter.")
    ] = None


class PriceTierBody(Body):
    """A step of a tiered price; up_to_amount is inclusive, and the last tier has none."""

    up_to_amount: NumericText | None = None
    flat_price: FlatPriceBody | None = None
    unit_price: UnitPriceBody | None = None


Tiers = Annotated[list[PriceTierBody], Field(max_length=MOST_TIERS)]


class GraduatedPriceBody(Body):
    """Each tier prices its own units."""

    type: Literal["graduated"]
    tiers: Tiers


class VolumePriceBody(Body):
    """All units are priced by the tier that the quantity reaches."""

    type: Literal["volume"]
    tiers: Tiers


PriceBody: TypeAlias = Annotated[
    Annotated[FreePriceBody, tagged("free")]
    | Annotated[FlatPriceBody, tagged("flat")]
    | Annotated[UnitPriceBody, tagged("unit")]
    | Annotated[GraduatedPriceBody, tagged("graduated")]
    | Annotated[VolumePriceBody, tagged("volume")],
    by_type("free", "flat", "unit", "graduated", "volume"),
]


class UnitConfigBody(Body):
    """What is billed instead of the metered unit: per million is divide by 1000000."""

    operation: Literal["divide", "multiply"]
    conversion_factor: NumericText
    rounding: Literal["none", "ceiling", "floor", "half_up"] | None = None
    precision: Annotated[int, Field(ge=0, le=18)] | None = None
    display_unit: Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL)] | None = None


class CommitmentsBody(Body):
    """The least and the most that a period costs."""

    minimum_amount: NumericText | None = None
    maximum_amount: NumericText | None = None


class DiscountsBody(Body):
    """A percentage off the amount, and units that are not charged."""

    percentage: (
        Annotated[
            float,
            Field(allow_inf_nan=False, json_schema_extra={"minimum": 0, "maximum": 100}),
        ]
        | None
    ) = None
    usage: NumericText | None = None


class TaxConfigBody(Body):
    """The tax code of the line."""

    behavior: Literal["inclusive", "exclusive"] | None = None
    code: FeatureReferenceBody


class MeteredEntitlementBody(Body):
    """So much of the feature in each usage period; without a limit as much as one likes."""

    type: Literal["metered"]
    is_soft_limit: bool | None = None
    limit: Number | None = None
    usage_period: DurationText | None = None


def _is_kept(config: JsonValue) -> JsonValue:
    if config is None:
        raise PydanticCustomError("config", "must not be null", {"rule": "required"})
    try:
        json.dumps(config, allow_nan=False)
    except ValueError as err:
        reason = "must not hold NaN or Infinity, which JSON has not"
        raise PydanticCustomError("config", reason, {"rule": "invalid"}) from err
    return config


class StaticEntitlementBody(Body):
    """A setting for the product to read: any JSON but null."""

    type: Literal["static"]
    config: Annotated[JsonValue, AfterValidator(_is_kept)]


class BooleanEntitlementBody(Body):
    """The feature is there."""

    type: Literal["boolean"]


EntitlementBody: TypeAlias = Annotated[
    Annotated[MeteredEntitlementBody, tagged("metered")]
    | Annotated[StaticEntitlementBody, tagged("static")]
    | Annotated[BooleanEntitlementBody, tagged("boolean")],
    by_type("metered", "static", "boolean"),
]


class RateCardBody(Body):
    """The price of one thing in a plan; the key is the feature's, if it has one."""

    key: ResourceKey
    name: Name
    description: Description | None = None
    labels: Labels | None = None
    feature: FeatureReferenceBody | None = None
    currency: CurrencyCode | None = None
    billing_cadence: DurationText | None = None
    price: PriceBody
    unit_config: UnitConfigBody | None = None
    payment_term: PaymentTerm | None = None
    commitments: CommitmentsBody | None = None
    discounts: DiscountsBody | None = None
    tax_config: TaxConfigBody | None = None
    entitlement: EntitlementBody | None = None

    @model_validator(mode="after")
    def _prices_agree(self) -> Self:
        """What is sent of the prices that are for reading must be what would be answered."""
        document = self.model_dump(exclude_none=True)
        for at, unit_price in unit_prices(document["price"]):
            both = both_prices(unit_price["amount"], document.get("unit_config"))
            for name in (PER_UNIT, PER_MILLION):
                if name in unit_price and unit_price[name] != both.get(name):
                    right = f"leave it out, or send {both[name]}" if both else "leave it out"
                    raise PydanticCustomError(
                        "price",
                        "{at}.{name} is not what {amount} comes to: {right}",
                        {
                            "at": at,
                            "name": name,
                            "amount": unit_price["amount"],
                            "right": right,
                            "rule": "invalid",
                        },
                    )
        return self


def rate_card_of(document: Document) -> RateCardBody:
    """The rate card of a document as it is answered."""
    return RateCardBody.model_validate(with_both_prices(document), strict=False)
