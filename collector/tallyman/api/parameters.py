"""The query parameters of lists: pages, cursors, filters and an order, read and described.

One declaration gives both the reading and the OpenAPI document. What a filter does is the store's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from aiohttp import web

from tallyman.api.wire import read_time
from tallyman.errors import InvalidInput, InvalidParameter

TEXT_OPERATORS: Final = (
    "eq", "neq", "contains", "ocontains", "oeq", "gt", "gte", "lt", "lte", "exists",
)  # fmt: skip
EXACT_OPERATORS: Final = ("eq", "neq", "oeq", "exists")
TIME_OPERATORS: Final = ("eq", "gt", "gte", "lt", "lte")
LISTS: Final = ("oeq", "ocontains")
LARGEST_PAGE: Final = 100
LAST_PAGE: Final = 1_000_000
LONGEST_VALUE: Final = 1024


@dataclass(frozen=True)
class Condition:
    """One operator on one field."""

    field: str
    operator: str
    values: tuple[str | datetime, ...]


@dataclass(frozen=True)
class ListQuery:
    """What is asked of a list. `after` is of cursor pages, `number` of numbered ones."""

    conditions: tuple[Condition, ...]
    sort_by: str
    descending: bool
    size: int
    number: int = 1
    after: str | None = None

    @property
    def offset(self) -> int:
        """How many stand on the pages before a numbered one."""
        return (self.number - 1) * self.size


@dataclass(frozen=True)
class ListParameters:
    """What a list can be asked. The first of `sortable` is the default order."""

    texts: tuple[str, ...]
    sortable: tuple[str, ...]
    descending: bool
    pages: Literal["numbered", "cursor"]
    times: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    default_size: int = 20

    def read(self, request: web.Request) -> ListQuery:
        """Read the query string.

        Raises:
            InvalidInput: a parameter is not known or wrong; names it.
        """
        given: dict[str, str] = {}
        for name, value in request.query.items():
            if name in given:
                raise _wrong(name, "invalid", "is given twice")
            given[name] = value
        conditions: list[Condition] = []
        page: dict[str, str] = {}
        sort = given.pop("sort", None)
        for name, value in given.items():
            match name.removesuffix("]").replace("]", "").split("["):
                case ["filter", field, *operator] if len(operator) <= 1:
                    conditions.append(self._condition(name, field, operator, value))
                case ["page", part] if part in self._page_parts():
                    page[part] = value
                case ["page", "before"]:
                    raise _wrong(name, "invalid", "is not supported: go forward by page[after]")
                case _:
                    raise _wrong(name, "unknown_property", "is not known")
        sort_by, descending = self._sort(sort)
        return ListQuery(
            conditions=tuple(conditions),
            sort_by=sort_by,
            descending=descending,
            size=_integer("page[size]", page.get("size", str(self.default_size)), LARGEST_PAGE),
            number=_integer("page[number]", page.get("number", "1"), LAST_PAGE),
            after=page.get("after"),
        )

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        orders = [f"{field}{order}" for field in self.sortable for order in ("", " asc", " desc")]
        page: dict[str, Any] = {
            "size": {
                "type": "integer",
                "minimum": 1,
                "maximum": LARGEST_PAGE,
                "default": self.default_size,
            }
        }
        if self.pages == "cursor":
            page["after"] = {"type": "string", "description": "`next` of the page before."}
        else:
            page["number"] = {"type": "integer", "minimum": 1, "maximum": LAST_PAGE, "default": 1}
        text = {"type": "string", "maxLength": LONGEST_VALUE, "pattern": r"^[^\x00]*$"}
        by_operator = dict.fromkeys(TEXT_OPERATORS, text) | {"exists": {"type": "boolean"}}
        by_id = {name: by_operator[name] for name in EXACT_OPERATORS}
        by_time = {name: {"type": "string", "format": "date-time"} for name in TIME_OPERATORS}
        return [
            _parameter("page", page, ""),
            {"name": "sort", "in": "query", "schema": {"type": "string", "enum": orders}},
            *(
                _parameter(f"filter[{field}]", by_operator, f"`filter[{field}]=x` is `eq`.")
                for field in self.texts
            ),
            *(
                _parameter(f"filter[{field}]", by_id, f"`filter[{field}]=x` is `eq`.")
                for field in self.exact
            ),
            *(
                _parameter(f"filter[{field}]", by_time, f"`filter[{field}]=x` is `eq`.")
                for field in self.times
            ),
        ]

    def _page_parts(self) -> tuple[str, str]:
        return ("size", "after") if self.pages == "cursor" else ("size", "number")

    def _sort(self, given: str | None) -> tuple[str, bool]:
        if given is None:
            return self.sortable[0], self.descending
        field, _, order = given.partition(" ")
        if field not in self.sortable or order not in ("", "asc", "desc"):
            raise _wrong(
                "sort",
                "enum",
                f"must be one of {', '.join(self.sortable)}, with asc or desc after it",
                choices=list(self.sortable),
            )
        return field, order == "desc" if order else self.descending

    def _condition(self, name: str, field: str, operators: list[str], value: str) -> Condition:
        operator = operators[0] if operators else "eq"
        if field in self.times:
            known: tuple[str, ...] = TIME_OPERATORS
        elif field in self.exact:
            known = EXACT_OPERATORS
        elif field in self.texts:
            known = TEXT_OPERATORS
        else:
            raise _wrong(name, "unknown_property", "is no filter of this list")
        if operator not in known:
            raise _wrong(name, "enum", f"must be one of {', '.join(known)}", choices=list(known))
        if len(value) > LONGEST_VALUE:
            raise _wrong(name, "max_length", "is too long", maximum=LONGEST_VALUE)
        if "\x00" in value:
            raise _wrong(name, "invalid", "must not hold a NUL")
        if field in self.times:
            return Condition(field, operator, (_time(name, value),))
        if operator == "exists" and value not in ("true", "false"):
            raise _wrong(name, "is_boolean", "must be true or false")
        return Condition(
            field, operator, tuple(value.split(",")) if operator in LISTS else (value,)
        )


@dataclass(frozen=True)
class CursorParameters:
    """A page of what has one order and no filters: `page[size]` and `page[after]`."""

    default_size: int = 20

    def read(self, request: web.Request) -> tuple[int, str | None]:
        """How many are asked for, and after which cursor.

        Raises:
            InvalidInput: a parameter is not known or wrong; names it.
        """
        asked = self._as_list().read(request)
        if "sort" in request.query:
            raise _wrong("sort", "unknown_property", "is not known")
        return asked.size, asked.after

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""
        return [one for one in self._as_list().describe() if one["name"] != "sort"]

    def _as_list(self) -> ListParameters:
        return ListParameters((), ("time",), False, "cursor", default_size=self.default_size)


def refuse_any(request: web.Request) -> None:
    """Refuse every query parameter, for routes that have none.

    Raises:
        InvalidInput: there is one; names it.
    """
    for name in request.query:
        raise _wrong(name, "unknown_property", "is not known")


def _parameter(name: str, properties: Mapping[str, Any], description: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    described = {"description": description} if description else {}
    return {
        "name": name, "in": "query", "style": "deepObject", "explode": True,
        "schema": schema, **described,
    }  # fmt: skip


def _integer(name: str, text: str, largest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _wrong(name, "is_integer", f"must be a whole number from 1 to {largest}")
    number = int(text)
    if number < 1:
        raise _wrong(name, "min", f"must be between 1 and {largest}", minimum=1)
    if number > largest:
        raise _wrong(name, "max", f"must be between 1 and {largest}", maximum=largest)
    return number


def _time(name: str, text: str) -> datetime:
    try:
        # An unescaped + of an offset arrives as a space.
        return read_time(text.replace(" ", "+"))
    except ValueError as err:
        raise _wrong(name, "is_date_time", str(err)) from err


def _wrong(name: str, rule: str, reason: str, **extra: Any) -> InvalidInput:
    parameter = InvalidParameter(name, rule, reason, source="query", extra=extra)
    return InvalidInput(f"{name} {reason}", [parameter])
