"""`POST /meters/{meter}/query`: what was used."""

from aiohttp import web

from tallyman.api.events import STORE
from tallyman.domain.meter import Meter, MeterQuery

METERS: web.AppKey[dict[str, Meter]] = web.AppKey("meters", dict)


async def query(request: web.Request) -> web.Response:
    """The meter's value by dimension."""
    asked = await request.json()
    meter = request.app[METERS][request.match_info["meter"]]
    rows = await request.app[STORE].query(
        meter, MeterQuery(group_by=tuple(asked.get("group_by_dimensions", ())))
    )
    return web.json_response(
        {
            "data": [
                {
                    "value": str(row.value.normalize()),
                    "from": row.from_.isoformat(),
                    "to": row.to.isoformat(),
                    "dimensions": row.dimensions,
                }
                for row in rows
            ]
        }
    )
