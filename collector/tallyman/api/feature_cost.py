"""`POST /features/{featureId}/cost/query`: what a feature's usage cost the seller, as JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence

from aiohttp import web
from pydantic import Field

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.media_type import preferred
from tallyman.api.meter_query import CSV, meter_query, named, owners_of, read_query
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW, SETTINGS
from tallyman.api.wire import Answer, Numeric, Time, write_number, write_time
from tallyman.billing.cost import feature_cost
from tallyman.domain.customer import Customer
from tallyman.domain.meter_query import CUSTOMER
from tallyman.domain.unit_cost import CostRow
from tallyman.errors import InvalidInput, InvalidParameter


class FeatureCostRow(Answer):
    """One group of one window. A `cost` of null is not known, and `detail` says why."""

    usage: Numeric
    cost: Numeric | None
    currency: str
    detail: str | None = None
    from_: Time = Field(alias="from")
    to: Time
    dimensions: dict[str, str]


class FeatureCostResult(Answer):
    """What the usage cost."""

    from_: Time | None = Field(default=None, alias="from")
    to: Time | None = None
    data: list[FeatureCostRow]

    def to_json(self) -> bytes:
        """The body on the wire; a cost that is not known is there, as null."""
        given = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for row in given["data"]:
            row.setdefault("cost", None)
        return json.dumps(given).encode()


async def query(request: web.Request) -> web.Response:
    """The cost, by window and by dimension."""
    parameters.refuse_any(request)
    body = await read_query(request)
    books, namespace = request.app[BOOKS], request[CALLER].namespace
    feature = await books.features.get(namespace, path_text(request, "featureId"))
    if feature.meter is None:
        reason = "the feature has no meter: nothing of it is counted"
        raise InvalidInput(reason, [InvalidParameter("meter", "required", reason)])
    meter = await books.meters.get(namespace, feature.meter.id)
    asked = meter_query(meter, body)
    book = await books.prices.book(namespace, request[NOW])
    owners = await owners_of(request, asked)
    most = request.app[SETTINGS].max_query_rows
    rows = await feature_cost(books, feature, meter, asked, owners, book, most)
    if preferred(request.headers.get("Accept", ""), (JSON, CSV)) == CSV:
        text = _csv(asked.group_by, rows, await named(request, asked, rows))
        response = web.Response(text=text, content_type=CSV)
        response.headers["Content-Disposition"] = f'attachment; filename="{feature.key}-cost.csv"'
        return response
    result = FeatureCostResult(
        from_=body.from_, to=body.to, data=[FeatureCostRow(**vars(row)) for row in rows]
    )
    return web.Response(body=result.to_json(), content_type=JSON)


def _csv(
    group_by: Sequence[str], rows: Sequence[CostRow], customers: Mapping[str, Customer]
) -> str:
    """The columns from, to, dimensions, and what they cost; the key of a customer beside its id."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    heads = [(name, "customer_key") if name == CUSTOMER else (name,) for name in group_by]
    writer.writerow(
        ["from", "to", *(h for some in heads for h in some), "usage", "cost", "currency", "detail"]
    )
    for row in rows:
        cells = []
        for name in group_by:
            cells.append(row.dimensions[name])
            if name == CUSTOMER:
                customer = customers.get(row.dimensions[name])
                cells.append("" if customer is None else customer.key)
        cost = "" if row.cost is None else write_number(row.cost)
        writer.writerow(
            [
                *(write_time(row.from_), write_time(row.to), *cells, write_number(row.usage)),
                *(cost, "" if row.cost is None else row.currency, row.detail or ""),
            ]
        )
    return file.getvalue()
