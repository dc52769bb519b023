"""A small server that speaks the lists of Kong's Admin API: pages by `offset`, and `next`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Entities = Mapping[str, Sequence[Mapping[str, Any]]]


@asynccontextmanager
async def kong_admin(
    entities: Entities, *, page: int = 2, token: str | None = None, under: str = ""
) -> AsyncIterator[str]:
    """The address of a server with these entities by path; at most `page` of them at a time.

    `next` is a path without `under`, as behind a proxy or with a workspace.
    """

    async def every(request: web.Request) -> web.Response:
        if token is not None and request.headers.get("Kong-Admin-Token") != token:
            return web.json_response({"message": "Unauthorized"}, status=401)
        name = request.match_info["name"]
        if name not in entities:
            return web.json_response({"message": "Not found"}, status=404)
        size = min(page, int(request.query["size"]))
        start = int(request.query.get("offset", "0"))
        end = start + size
        answer: dict[str, Any] = {"data": list(entities[name][start:end]), "next": None}
        if end < len(entities[name]):
            answer |= {"offset": str(end), "next": f"/{name}?size={size}&offset={end}"}
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get(f"{under}/{{name}}", every)
    server = TestServer(app)
    async with server:
        yield str(server.make_url(under or "/")).rstrip("/")
