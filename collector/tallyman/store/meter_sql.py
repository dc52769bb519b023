"""Renders a meter query as (sql, parameters), and reads the rows that come back. Pure.

Values are exact: a Decimal(76, 18) from the event's own text, a string on the wire.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tallyman.domain.meter import Meter, MeterQuery, MeterRow, parse_path

Parameters = dict[str, Any]


def render(meter: Meter, query: MeterQuery) -> tuple[str, Parameters]:
    """One SELECT over events FINAL, with a column a dimension and the value last."""
    parameters: Parameters = {"namespace": meter.namespace, "type": meter.event_type}
    columns = [_dimension(meter, name) for name in query.group_by]
    where = ["namespace = {namespace:String}", "type = {type:String}"]
    if query.from_ is not None:
        where.append("time >= {from:DateTime64(6)}")
        parameters["from"] = query.from_.astimezone(UTC).replace(tzinfo=None)
    if query.to is not None:
        where.append("time < {to:DateTime64(6)}")
        parameters["to"] = query.to.astimezone(UTC).replace(tzinfo=None)
    selected = [f"{column} AS d{index}" for index, column in enumerate(columns)]
    grouped = [f"d{index}" for index in range(len(columns))]
    sql = f"SELECT {', '.join([*selected, 'min(time)', 'max(time)', _value(meter)])} FROM events FINAL WHERE {' AND '.join(where)}"  # noqa: S608 – columns are rendered from checked paths, values are parameters
    if grouped:
        sql += f" GROUP BY {', '.join(grouped)} ORDER BY {', '.join(grouped)}"
    return sql, parameters


def read_rows(meter: Meter, query: MeterQuery, rows: Sequence[Any]) -> list[MeterRow]:
    """The rows of `render`'s query."""
    return [
        MeterRow(
            value=Decimal(row[-1] or 0),
            from_=query.from_ or _aware(row[-3]),
            to=query.to or _aware(row[-2]),
            dimensions=dict(zip(query.group_by, row[:-3], strict=True)),
        )
        for row in rows
    ]


def _value(meter: Meter) -> str:
    return "sum(toDecimal256(ifNull(tokens, 0), 18))"


def _dimension(meter: Meter, name: str) -> str:
    if name == "subject":
        return "subject"
    steps = parse_path(meter.dimensions[name], f"dimensions.{name}")
    path = ", ".join(f"'{step}'" if isinstance(step, str) else str(step + 1) for step in steps)
    return f"JSONExtractString(data, {path})"


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
