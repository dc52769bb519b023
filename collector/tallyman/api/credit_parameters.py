"""The query parameters of a credit balance: a time, a currency and a feature.

Those of lists are `parameters.py`'s.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from tallyman.api.wire import read_time
from tallyman.errors import InvalidInput, InvalidParameter

_OPERATORS = {"currency": ("eq", "oeq", "neq"), "feature_key": ("eq",)}


@dataclass(frozen=True)
class BalanceQuery:
    """What is asked of a balance; None is everything, and now."""

    at: datetime | None = None
    currencies: tuple[str, ...] | None = None
    but: tuple[str, ...] = ()
    feature_key: str | None = None

    def wants(self, currency: str) -> bool:
        """Whether the currency is asked for."""
        return currency not in self.but and (self.currencies is None or currency in self.currencies)


class BalanceParameters:
    """Reads them, and describes them."""

    def read(self, request: web.Request) -> BalanceQuery:
        """Read the query string.

        Raises:
            InvalidInput: a parameter is not known or wrong; names it.
        """
        found: dict[str, Any] = {}
        for name, value in request.query.items():
            match name.removesuffix("]").replace("]", "").split("["):
                case ["timestamp"]:
                    key, read = "at", _time(name, value)
                case ["filter", field, *rest] if field in _OPERATORS and len(rest) <= 1:
                    key, read = _filter(name, field, rest[0] if rest else "eq", value)
                case _:
                    raise _wrong(name, "unknown_property", "is not known")
            if key in found:
                raise _wrong(name, "invalid", "is given twice")
            found[key] = read
        return BalanceQuery(**found)

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        text = {"type": "string", "maxLength": 1024, "pattern": r"^[^\x00]*$"}
        return [
            {
                "name": "timestamp",
                "in": "query",
                "schema": {"type": "string", "format": "date-time"},
                "description": "As it was booked then; what was not billed yet is not in it.",
            },
            *(
                {
                    "name": f"filter[{field}]",
                    "in": "query",
                    "style": "deepObject",
                    "explode": True,
                    "schema": {
                        "type": "object",
                        "properties": dict.fromkeys(operators, text),
                        "additionalProperties": False,
                    },
                    "description": f"`filter[{field}]=x` is `eq`.",
                }
                for field, operators in _OPERATORS.items()
            ),
        ]


def _filter(name: str, field: str, operator: str, value: str) -> tuple[str, Any]:
    known = _OPERATORS[field]
    if operator not in known:
        raise _wrong(name, "enum", f"must be one of {', '.join(known)}", choices=list(known))
    if field == "feature_key":
        return "feature_key", value
    values = tuple(value.split(",")) if operator == "oeq" else (value,)
    return ("but" if operator == "neq" else "currencies"), values


def _time(name: str, text: str) -> datetime:
    try:
        return read_time(text.replace(" ", "+"))  # an unescaped + of an offset arrives as a space
    except ValueError as err:
        raise _wrong(name, "is_date_time", str(err)) from err


def _wrong(name: str, rule: str, reason: str, **extra: Any) -> InvalidInput:
    parameter = InvalidParameter(name, rule, reason, source="query", extra=extra)
    return InvalidInput(f"{name} {reason}", [parameter])
