"""The one middleware: a trace id, who asks, errors as problems, a log line and a metric.

What a request does is its handler's.
"""

import logging
import secrets
import time
import traceback
from datetime import datetime
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from tallyman import metrics
from tallyman.api import auth, problems
from tallyman.api.route import PREFIXES, Route
from tallyman.api.state import BOOKS, CALLER, CLOCK, NOW, REQUESTS, TRACE
from tallyman.domain.access import Scope
from tallyman.errors import (
    Forbidden,
    InvalidInput,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    TallymanError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from tallyman.store.turns import asked_by

ROUTES: Final[web.AppKey[dict[web.AbstractRoute, Route]]] = web.AppKey("routes", dict)
RETRY_AFTER_SECONDS: Final = "1"
ENCODINGS: Final = ("identity", "gzip", "deflate", "zstd")  # what aiohttp unpacks

log = logging.getLogger(__name__)


@web.middleware
async def border(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let no exception out, and no request through that the caller may not make."""
    started = time.monotonic()
    request[TRACE] = secrets.token_hex(16)
    requests = request.app[REQUESTS]
    with requests.one():
        response = await _answer(request, handler)
        if requests.stopping:
            response.force_close()
    route = _name(request)
    metrics.HTTP_REQUESTS.labels(request.method, route, str(response.status)).inc()
    log.info(
        "%s %s %d %d ms kong:trace:%s",
        request.method,
        route,
        response.status,
        (time.monotonic() - started) * 1000,
        request[TRACE],
    )
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    route = request.app[ROUTES].get(request.match_info.route)
    scope = route.scope if route is not None else Scope.READ
    basic = route is not None and route.basic
    try:
        if route is None or scope is not None:
            request[CALLER] = await auth.authenticate(request, basic=basic)
            request[NOW] = await _now(request)
        if route is not None and scope is not None:
            auth.require(request[CALLER], scope)
        _refuse_unknown_encoding(request)
        caller = request.get(CALLER)
        with asked_by(caller.actor if caller is not None else None):
            return await handler(request)
    except (Unauthenticated, Forbidden) as err:
        response = problems.response(err, request[TRACE])
        for challenge in auth.challenge(err, scope, basic=basic):
            response.headers.add("WWW-Authenticate", challenge)
    except Unavailable as err:
        metrics.STORE_ERRORS.inc()
        log.error("%s: %s kong:trace:%s", err, _where(err), request[TRACE])
        response = problems.response(err, request[TRACE])
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    except TallymanError as err:
        response = problems.response(err, request[TRACE])
        if isinstance(err, TooManyRequests):
            metrics.TOO_MANY.labels(err.code).inc()
            response.headers["Retry-After"] = str(err.after_seconds)
    except (web.HTTPException, HttpProcessingError, web.RequestPayloadError) as err:
        response = _of_aiohttp(err, request)
    except Exception as err:  # noqa: BLE001 – the border: nothing inside is shown outside
        log.error("%s kong:trace:%s", _where(err), request[TRACE])
        unexpected = TallymanError("something went wrong here; the log has more under the trace id")
        response = problems.response(unexpected, request[TRACE])
    return response


async def _now(request: web.Request) -> datetime:
    """The time in the caller's namespace."""
    sandboxes, real = request.app[BOOKS].sandboxes, request.app[CLOCK]()
    return await sandboxes.now(request[CALLER].namespace, real)


def _refuse_unknown_encoding(request: web.Request) -> None:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ENCODINGS:
        reason = f"must be one of {', '.join(ENCODINGS)}"
        raise InvalidInput(
            f"Content-Encoding {reason}",
            [InvalidParameter("Content-Encoding", "enum", reason, "header")],
        )


def _of_aiohttp(err: Exception, request: web.Request) -> web.Response:
    """aiohttp's own refusals."""
    error: TallymanError
    match err:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(err.allowed_methods))
            error = MethodNotAllowed(f"{request.method} is not allowed here, but {allowed}")
            response = problems.response(error, request[TRACE])
            response.headers["Allow"] = allowed
            return response
        case web.HTTPNotFound():
            error = NotFound("there is nothing at this path")
        case web.HTTPRequestEntityTooLarge():
            error = TooLarge("the body is larger than max_body_bytes")
        case web.RequestPayloadError():
            reason = "ends early, or is not in the form that Content-Encoding names"
            error = InvalidInput(
                f"the body {reason}", [InvalidParameter("body", "invalid", reason)]
            )
        case _:
            error = InvalidInput("the request could not be read")
    return problems.response(error, request[TRACE])


def _name(request: web.Request) -> str:
    """The route without its prefix: never the path itself, which may hold anything."""
    resource = request.match_info.route.resource
    if resource is None:
        return "unknown"
    path = resource.canonical
    prefix = next((prefix for prefix in PREFIXES if path.startswith(f"{prefix}/")), "")
    return path.removeprefix(prefix)


def _where(err: BaseException) -> str:
    """The error's type and place; not its message, which may quote what was sent."""
    chain = [err]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    frames = traceback.extract_tb(chain[-1].__traceback__)[-4:]
    places = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames[::-1])
    return f"{' from '.join(type(link).__name__ for link in chain)} in {places}"
