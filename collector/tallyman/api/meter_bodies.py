"""The bodies of the meter routes, as OpenMeter's v3 API has them."""

import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

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
    Resource,
    ResourceKey,
    Time,
)
from tallyman.domain.meter import Aggregation, Granularity, Meter

JSON_PATH: Final = (
    r"^\$(\.[A-Za-z_][A-Za-z0-9_-]{0,127}|\[[0-9]{1,4}\]|\['[^'\\\x00]{1,128}'\]){1,8}$"
)
MOST_DIMENSIONS: Final = 100
MOST_FILTERED: Final = 10

JsonPath = Annotated[
    str,
    StringConstraints(min_length=1, pattern=JSON_PATH),
    Field(description="A JSONPath into the event's data, e.g. `$.usage['input tokens']`."),
]
EventType = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
FilterText = Annotated[str, StringConstraints(max_length=1024, pattern=NO_NUL)]


def _check_dimension_names(dimensions: dict[str, str]) -> dict[str, str]:
    for name in dimensions:
        if re.search(DIMENSION_NAME, name) is None:
            raise PydanticCustomError(
                "dimension",
                "has a name that no dimension can have: letters, digits and _, at most 63, "
                "and neither subject nor customer_id",
                {"rule": "matches_regex"},
            )
    return dimensions


Dimensions = Annotated[
    dict[str, JsonPath],
    Field(
        max_length=MOST_DIMENSIONS, json_schema_extra={"propertyNames": {"pattern": DIMENSION_NAME}}
    ),
    AfterValidator(_check_dimension_names),
]


class CreateMeterRequest(Body):
    """A new meter. `value_property` is required, unless the aggregation is `count`."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"aggregation": {"const": "count"}}, "required": ["aggregation"]},
            "then": {"properties": {"value_property": {"type": "null"}}},
            "else": {
                "properties": {"value_property": {"type": "string"}},
                "required": ["value_property"],
            },
        }
    )

    name: Name
    key: ResourceKey
    aggregation: Aggregation
    event_type: EventType
    description: Description | None = None
    labels: Labels | None = None
    events_from: Time | None = None
    value_property: JsonPath | None = None
    dimensions: Dimensions | None = None

    @model_validator(mode="after")
    def _has_its_value(self) -> Self:
        counts = self.aggregation is Aggregation.COUNT
        if counts and self.value_property is not None:
            raise PydanticCustomError(
                "value_property",
                "value_property is not for a count, which has no value",
                {"rule": "invalid"},
            )
        if not counts and self.value_property is None:
            raise PydanticCustomError(
                "value_property",
                "value_property is required, unless the aggregation is count",
                {"rule": "required"},
            )
        return self


class UpdateMeterRequest(Body):
    """What can be changed of a meter; what is absent stays as it is."""

    name: Name | None = None
    description: Description | None = None
    labels: Labels | None = None
    dimensions: Dimensions | None = None


class MeterAnswer(Resource):
    """A meter."""

    key: ResourceKey
    aggregation: Aggregation
    event_type: EventType
    events_from: Time | None = None
    value_property: str | None = None
    dimensions: dict[str, str] | None = None

    @classmethod
    def of(cls, meter: Meter) -> Self:
        """The meter on the wire."""
        return cls(
            id=meter.id,
            name=meter.name,
            description=meter.description,
            labels=meter.labels,
            created_at=meter.created_at,
            updated_at=meter.updated_at,
            deleted_at=meter.deleted_at,
            key=meter.key,
            aggregation=meter.aggregation,
            event_type=meter.event_type,
            events_from=meter.events_from,
            value_property=meter.value_property,
            dimensions=meter.dimensions,
        )


class MeterPage(Answer):
    """A page of meters."""

    data: list[MeterAnswer]
    meta: PaginatedMeta


def _without_default(schema: dict[str, Any]) -> None:
    """An operator that is absent has no value: the default only fills the attribute."""
    schema.pop("default", None)


class Operators(Body):
    """One operator on a dimension's value."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    eq: FilterText = Field("", json_schema_extra=_without_default)
    neq: FilterText = Field("", json_schema_extra=_without_default)
    in_: Annotated[list[FilterText], Field(min_length=1, max_length=100)] = Field(
        [], alias="in", json_schema_extra=_without_default
    )
    nin: Annotated[list[FilterText], Field(min_length=1, max_length=100)] = Field(
        [], json_schema_extra=_without_default
    )
    contains: FilterText = Field("", json_schema_extra=_without_default)
    ncontains: FilterText = Field("", json_schema_extra=_without_default)

    @model_validator(mode="before")
    @classmethod
    def _is_one(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        nested = {"and", "or"} & given.keys()
        if nested and not {"and_", "or_"} & cls.model_fields.keys():
            raise PydanticCustomError("nested", "nests and / or deeper than two levels")
        if len(given) != 1:
            raise PydanticCustomError(
                "one_operator", "must have one operator, not {count}", {"count": len(given)}
            )
        return given

    @property
    def operator(self) -> tuple[str, Any]:
        """The operator's name on the wire, and its operand."""
        name = next(iter(self.model_fields_set))
        return name.rstrip("_"), getattr(self, name)


class NestedFilter(Operators):
    """One operator, or several filters of which all or any must hold."""

    and_: Annotated[list[Operators], Field(min_length=1, max_length=10)] = Field(
        [], alias="and", json_schema_extra=_without_default
    )
    or_: Annotated[list[Operators], Field(min_length=1, max_length=10)] = Field(
        [], alias="or", json_schema_extra=_without_default
    )


class DimensionFilterBody(Operators):
    """One operator, or several filters of which all or any must hold, nested twice at most."""

    exists: bool = Field(True, json_schema_extra=_without_default)
    and_: Annotated[list[NestedFilter], Field(min_length=1, max_length=10)] = Field(
        [], alias="and", json_schema_extra=_without_default
    )
    or_: Annotated[list[NestedFilter], Field(min_length=1, max_length=10)] = Field(
        [], alias="or", json_schema_extra=_without_default
    )


class MeterQueryFilters(Body):
    """What is counted: events for which the filters of all dimensions hold."""

    dimensions: (
        Annotated[dict[str, DimensionFilterBody], Field(max_length=MOST_FILTERED)] | None
    ) = None


class MeterQueryRequest(Body):
    """What is asked of a meter: events with `from` <= time < `to`."""

    from_: Time | None = Field(None, alias="from")
    to: Time | None = None
    granularity: Granularity | None = None
    time_zone: Annotated[
        str,
        Field(
            description="An IANA time zone; windows begin by its clock.",
            json_schema_extra={"format": "iana-time-zone"},
        ),
    ] = "UTC"
    group_by_dimensions: Annotated[list[str], Field(max_length=100)] | None = None
    filters: MeterQueryFilters | None = None


class MeterQueryRowAnswer(Answer):
    """One group of one window."""

    value: Numeric
    from_: Time = Field(alias="from")
    to: Time
    dimensions: dict[str, str]


class MeterQueryResult(Answer):
    """What a meter answered; `from` and `to` are those of the question."""

    from_: Time | None = Field(None, alias="from")
    to: Time | None = None
    data: list[MeterQueryRowAnswer]
