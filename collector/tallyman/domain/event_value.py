"""What one event is to a meter: its value and dimensions, and why it may not count.

`store/json_sql.py` is the same in SQL, for many events.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tallyman.domain.builtin_meters import BUILTIN_METERS
from tallyman.domain.event import CloudEvent
from tallyman.domain.meter import Aggregation, Meter, parse_path

# A number, also where it is written as a string: JSON's, and with a + or without a digit on one
# side of the point. No spaces, no NaN, no infinity. Digits beyond 18 decimal places are cut.
NUMBER: Final = re.compile(r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE](\+?[0-3]?[0-9]|-[0-9]{1,3}))?$")
LONGEST_NUMBER: Final = 60
LARGEST: Final = Decimal(10) ** 40  # 10**18 such values still fit ClickHouse's Decimal(76, 18)
PLACES: Final = Decimal(1).scaleb(-18)
_MAY_LACK_A_VALUE: Final = frozenset(
    meter.key for meter in BUILTIN_METERS if not meter.has_value_always
)


@dataclass(frozen=True)
class EventProblem:
    """Why a meter does not count an event that is stored all the same."""

    code: str
    message: str
    attributes: dict[str, str] = field(default_factory=dict)


def text_of(data: Any, steps: Sequence[str | int]) -> str:
    """The text at a path: '' if it is absent, null, an array or an object."""
    value = data
    for step in steps:
        match step, value:
            case str(), dict():
                value = value.get(step)
            case int(), list():
                value = value[step] if step < len(value) else None
            case _:
                return ""
    if value is None or isinstance(value, dict | list):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def number_of(text: str) -> Decimal | None:
    """The number that a text is, cut after 18 decimal places; None if it is none."""
    if len(text) > LONGEST_NUMBER or not NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if number.copy_abs() >= LARGEST:  # abs() would round to the context
        return None
    if number.adjusted() < -18:
        return Decimal(0)
    sign, digits, exponent = number.as_tuple()
    cut = -18 - int(exponent)
    return number if cut <= 0 else Decimal((sign, digits[:-cut], -18))


def problems(event: CloudEvent, meters: Iterable[Meter]) -> list[EventProblem]:
    """Why no meter counts it, or the meters of its type that do not; empty if all of them do."""
    concerned = [meter for meter in meters if meter.event_type == event.type]
    if not concerned:
        message = f"no meter counts events of the type {event.type}: the event_type of a meter must be this"
        return [EventProblem("no_meter", message, {"event_type": event.type})]
    raw = bytes(event.data)
    data = json.loads(raw, object_pairs_hook=_first_of_each) if raw else None
    found = (_problem(data, meter) for meter in concerned if _concerns(data, meter))
    return [problem for problem in found if problem is not None]


def _problem(data: Any, meter: Meter) -> EventProblem | None:
    if meter.aggregation is Aggregation.COUNT or meter.value_property is None:
        return None
    attributes = {"meter": meter.key, "value_property": meter.value_property}
    text = text_of(data, parse_path(meter.value_property))
    if text == "" and meter.key in _MAY_LACK_A_VALUE:
        return None
    if text == "":
        message = (
            f"the event has no value at {meter.value_property}: meter {meter.key} does not count it"
        )
        return EventProblem("missing_value", message, attributes)
    if meter.aggregation is not Aggregation.UNIQUE_COUNT and number_of(text) is None:
        message = f"the value at {meter.value_property} is not a number: meter {meter.key} does not count it"
        return EventProblem("invalid_value", message, attributes)
    return None


def _concerns(data: Any, meter: Meter) -> bool:
    if meter.only is None:
        return True
    dimension, value = meter.only
    return text_of(data, parse_path(meter.dimensions[dimension])) == value


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands twice in an object, ClickHouse reads the first."""
    read: dict[str, Any] = {}
    for key, value in pairs:
        read.setdefault(key, value)
    return read
