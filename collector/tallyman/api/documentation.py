"""The OpenAPI document and a page to read it, from this server alone."""

from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from swagger_ui_bundle import swagger_ui_path

from tallyman.api import parameters
from tallyman.api.route import JSON
from tallyman.errors import NotFound

DOCUMENT: Final[web.AppKey[dict[str, object]]] = web.AppKey("document", dict)
FILES: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
START: Final = "start.js"
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Tallyman API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# The origin is named because a browser refuses to fetch from a page whose address holds a key.
_START: Final = """SwaggerUIBundle({
  url: window.location.origin + "/openapi.json", dom_id: "#page", deepLinking: true
});
"""


async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI document."""
    parameters.refuse_any(request)
    return web.Response(body=msgspec.json.encode(request.app[DOCUMENT]), content_type=JSON)


async def page(request: web.Request) -> web.Response:
    """The page; its script fetches the document with the key that the browser was given."""
    parameters.refuse_any(request)
    return web.Response(
        text=_PAGE,
        content_type="text/html",
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )


async def page_file(request: web.Request) -> web.StreamResponse:
    """A file that the page needs."""
    parameters.refuse_any(request)
    name = request.match_info["file"]
    if name == START:
        return web.Response(text=_START, content_type="text/javascript")
    if name not in FILES:
        raise NotFound("the page has no such file")
    return web.FileResponse(Path(swagger_ui_path) / name, headers={"Content-Type": FILES[name]})
