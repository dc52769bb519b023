"""The types that several bodies share, with their rules as pydantic and JSON Schema know them.

What a body holds is its resource's: `meter_bodies.py`, `event_bodies.py`.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from tallyman.domain.duration import parse_duration

LABEL_VALUE: Final = r"^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$"
LABEL_KEY: Final = r"^(?!kong|konnect|mesh|kic|_)[^\x00]{1,63}$"
DIMENSION_NAME: Final = r"^(?!(subject|customer_id)$)[a-zA-Z_][a-zA-Z0-9_]{0,62}$"
RESOURCE_KEY: Final = r"^[a-z0-9]+(?:_[a-z0-9]+)*$"
ULID_PATTERN: Final = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
NUMERIC: Final = r"^\-?[0-9]+(\.[0-9]+)?$"
# As ISO 8601 has it, in whole units, and short enough for a calendar that ends in the year 9999.
DURATION: Final = (
    r"^P(?!$)([0-9]{1,2}Y)?([0-9]{1,3}M)?([0-9]{1,3}W)?([0-9]{1,4}D)?"
    r"(T(?!$)([0-9]{1,5}H)?([0-9]{1,6}M)?([0-9]{1,8}S)?)?$"
)
NO_NUL: Final = r"^[^\x00]*$"  # Postgres cannot keep one
MOST_LABELS: Final = 50

_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Body(BaseModel):
    """A request body: what is not known is refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    """A response body; what is absent is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def to_json(self) -> bytes:
        """The body on the wire."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def read_time(text: str) -> datetime:
    """An RFC 3339 time, in UTC.

    Raises:
        ValueError: it is none.
    """
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("must be an RFC 3339 time such as 2026-11-21T09:24:33Z")
    # Microseconds are what Python and the store keep.
    whole, fraction, zone = re.fullmatch(r"(.{19})(\.\d+)?(.+)", text.upper()).groups("")  # type: ignore[union-attr]  # it has matched above
    moment = datetime.fromisoformat(f"{whole}{fraction[:7]}{zone}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # an offset that leads out of the years 1 to 9999
        return moment.replace(tzinfo=UTC)


def write_time(moment: datetime) -> str:
    """RFC 3339 in UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_number(value: Decimal) -> str:
    """Plain notation, no exponent and no trailing zeros: 30, 0.03, -1.5."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("datetime", "must be an RFC 3339 time")
    try:
        return read_time(value)
    except ValueError as err:
        raise PydanticCustomError("datetime", "{reason}", {"reason": str(err)}) from err


Time = Annotated[
    datetime,
    BeforeValidator(_time),
    PlainSerializer(write_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Numeric = Annotated[
    Decimal,
    PlainSerializer(write_number),
    WithJsonSchema({"type": "string", "pattern": NUMERIC}),
]


def _refuse_number(value: Any) -> Any:
    """JSON's numbers are floats to most who read them: what is owed is written as a string."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        reason = 'must be a string: write the number in quotes, such as "0.000003"'
        raise PydanticCustomError("string_type", "{reason}", {"reason": reason})
    return value


NumericText = Annotated[
    str, StringConstraints(max_length=40, pattern=NUMERIC), BeforeValidator(_refuse_number)
]
# What is computed of such numbers has more digits, and comes back to us when it is sent again.
ComputedText = Annotated[
    str, StringConstraints(max_length=160, pattern=NUMERIC), BeforeValidator(_refuse_number)
]
Ulid = Annotated[str, StringConstraints(pattern=ULID_PATTERN)]
ResourceKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=RESOURCE_KEY)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
Description = Annotated[str, StringConstraints(max_length=1024, pattern=NO_NUL)]
LabelValue = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=LABEL_VALUE)]


class Resource(Answer):
    """What everything that is named, changed and deleted answers first."""

    id: Ulid
    name: Name
    description: Description | None = None
    labels: dict[str, str] | None = None
    created_at: Time
    updated_at: Time
    deleted_at: Time | None = None


def tagged(type_: str) -> Tag:
    """Marks the member of a union whose `type` this is; see `by_type`."""
    return Tag(f"<{type_}>")


def by_type(*types: str) -> Discriminator:
    """Chooses a member of a union by its `type`, so that an error is about that member only."""

    def tag_of(given: Any) -> str | None:
        type_ = given.get("type") if isinstance(given, dict) else getattr(given, "type", None)
        return f"<{type_}>" if type_ in types else None

    names = f"{', '.join(types[:-1])} or {types[-1]}"
    return Discriminator(
        tag_of,
        custom_error_type="union_type",
        custom_error_message=f"must be an object whose type is {names}",
    )


def check_duration(text: str) -> str:
    """The text, if it is a duration of ISO 8601."""
    if re.fullmatch(DURATION, text) is None:
        raise PydanticCustomError(
            "duration",
            "must be an ISO 8601 duration in whole units such as P1M, P2W or PT1H",
            {"rule": "matches_regex"},
        )
    # It is answered in the largest units: 65 years and 788 months as 130 years.
    if re.fullmatch(DURATION, str(parse_duration(text))) is None:
        raise PydanticCustomError("duration", "must be shorter", {"rule": "invalid"})
    return text


DurationText = Annotated[
    str,
    AfterValidator(check_duration),
    WithJsonSchema({"type": "string", "format": "ISO8601", "pattern": DURATION}),
]


def _check_label_keys(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if re.search(LABEL_KEY, key) is None:
            raise PydanticCustomError(
                "label",
                "has a key that is no label: 1 to 63 characters, not beginning with kong, "
                "konnect, mesh, kic or _",
                {"rule": "is_label"},
            )
    return labels


Labels = Annotated[
    dict[str, LabelValue],
    Field(max_length=MOST_LABELS, json_schema_extra={"propertyNames": {"pattern": LABEL_KEY}}),
    AfterValidator(_check_label_keys),
]
