"""`POST /meters/{meterId}/query`: what was used, as JSON or CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from aiohttp import web
from pydantic import ValidationError

from tallyman import metrics
from tallyman.api import meters, parameters
from tallyman.api.media_type import preferred
from tallyman.api.meter_bodies import (
    MeterQueryRequest,
    MeterQueryResult,
    MeterQueryRowAnswer,
    Operators,
)
from tallyman.api.problems import invalid_body
from tallyman.api.request_body import require_content_type
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, CUSTOMERS, EVENTS, SETTINGS
from tallyman.api.wire import write_number, write_time
from tallyman.domain.attribution import Owner
from tallyman.domain.customer import Customer
from tallyman.domain.meter import DimensionFilter, Granularity, Meter, MeterQuery, MeterRow
from tallyman.domain.meter_query import CUSTOMER, SUBJECT, check_query
from tallyman.errors import InvalidInput, InvalidParameter, InvalidQuery

CSV: Final = "text/csv"
_NAMED: Final = ("customer_key", "customer_name")


async def query(request: web.Request) -> web.Response:
    """The meter's value, by window and by dimension."""
    parameters.refuse_any(request)
    body = await read_query(request)
    meter = await meters.find(request)
    asked = meter_query(meter, body)
    with metrics.METER_QUERY_SECONDS.time():
        rows = await request.app[EVENTS].query(
            meter, asked, await owners_of(request, asked), request.app[SETTINGS].max_query_rows
        )
    if preferred(request.headers.get("Accept", ""), (JSON, CSV)) == CSV:
        text = write_csv(asked.group_by, rows, await named(request, asked, rows))
        response = web.Response(text=text, content_type=CSV)
        response.headers["Content-Disposition"] = f'attachment; filename="{meter.key}.csv"'
        return response
    result = MeterQueryResult(
        from_=body.from_,
        to=body.to,
        data=[
            MeterQueryRowAnswer(
                value=row.value, from_=row.from_, to=row.to, dimensions=row.dimensions
            )
            for row in rows
        ],
    )
    return web.Response(body=result.to_json(), content_type=JSON)


def meter_query(meter: Meter, body: MeterQueryRequest) -> MeterQuery:
    """What the body asks of this meter. Pure.

    Raises:
        InvalidInput: the meter cannot be asked this.
    """
    if body.from_ is not None and body.to is not None and body.from_ >= body.to:
        reason = "must be after from"
        raise InvalidInput(f"to {reason}", [InvalidParameter("to", "invalid", reason)])
    given = body.filters.dimensions if body.filters is not None else None
    asked = MeterQuery(
        from_=body.from_,
        to=body.to,
        granularity=body.granularity,
        time_zone=body.time_zone,
        group_by=tuple(dict.fromkeys(body.group_by_dimensions or ())),
        filters=tuple(_filter(name, value) for name, value in (given or {}).items()),
    )
    return check_query(meter, asked)


async def owners_of(request: web.Request, asked: MeterQuery) -> tuple[Owner, ...]:
    """Whose usage it is, if that is asked: of the customers filtered by, or of all."""
    if CUSTOMER not in asked.group_by:
        return ()
    filtered = [one.values for one in asked.filters if one.dimension == CUSTOMER]
    namespace = request[CALLER].namespace
    return await request.app[CUSTOMERS].every_owner(namespace, filtered[0] if filtered else None)


class _Grouped(Protocol):
    @property
    def dimensions(self) -> dict[str, str]: ...


async def named(
    request: web.Request, asked: MeterQuery, rows: Iterable[_Grouped]
) -> dict[str, Customer]:
    """The customers that the rows name, by id."""
    if CUSTOMER not in asked.group_by:
        return {}
    ids = {row.dimensions[CUSTOMER] for row in rows}
    found = await request.app[CUSTOMERS].with_ids(request[CALLER].namespace, ids)
    return {customer.id: customer for customer in found}


def write_csv(
    group_by: Sequence[str],
    rows: Sequence[MeterRow],
    customers: Mapping[str, Customer] = MappingProxyType({}),
) -> str:
    """The rows with the columns from, to, subject and customer if asked for, dimensions, value."""
    first = {SUBJECT: 0, CUSTOMER: 1}
    names = sorted(group_by, key=lambda name: first.get(name, 2))
    # what a user calls a dimension of its own may be customer_name too, so a cell goes by its place
    head = [[name, *_NAMED] if name == CUSTOMER else [name] for name in names]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["from", "to", *(column for columns in head for column in columns), "value"])
    for row in rows:
        dimensions: list[str] = []
        for name in names:
            dimensions.append(row.dimensions[name])
            if name == CUSTOMER:
                customer = customers.get(row.dimensions[name])
                dimensions += ["", ""] if customer is None else [customer.key, customer.name]
        writer.writerow(
            [write_time(row.from_), write_time(row.to), *dimensions, write_number(row.value)]
        )
    return file.getvalue()


async def read_query(request: web.Request) -> MeterQueryRequest:
    """The body of a query; without one, everything is asked.

    Raises:
        InvalidInput: it breaks a rule; names the field.
    """
    raw = await request.read()
    if not raw:
        return MeterQueryRequest()
    require_content_type(request, JSON)
    try:
        return MeterQueryRequest.model_validate_json(raw)
    except ValidationError as err:
        if any(found["loc"][:1] == ("granularity",) for found in err.errors()):
            choices = list(Granularity)
            reason = f"must be one of {', '.join(choices)}"
            parameter = InvalidParameter("granularity", "enum", reason, extra={"choices": choices})
            raise InvalidQuery("invalid_window_size", parameter) from err
        raise invalid_body(err) from err


def _filter(name: str, given: Operators) -> DimensionFilter:
    operator, operand = given.operator
    match operand:
        case bool():
            return DimensionFilter(name, operator, (str(operand).lower(),))
        case str():
            return DimensionFilter(name, operator, (operand,))
        case [str(), *_]:
            return DimensionFilter(name, operator, tuple(operand))
        case _:
            nested = tuple(_filter(name, item) for item in operand)
            return DimensionFilter(name, operator, nested=nested)
