"""Errors as `application/problem+json`, in the form that Konnect's clients know.

It does not decide when something is an error: see `errors.py` and the handlers.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tallyman import errors
from tallyman.errors import InvalidParameter

TYPES: Final = "https://kongapi.info/konnect/"
CONTENT_TYPE: Final = "application/problem+json"
STATUSES: Final[dict[type[errors.TallymanError], tuple[HTTPStatus, str]]] = {
    errors.InvalidInput: (HTTPStatus.BAD_REQUEST, "bad-request"),
    errors.Unauthenticated: (HTTPStatus.UNAUTHORIZED, "unauthenticated"),
    errors.Forbidden: (HTTPStatus.FORBIDDEN, "unauthorized"),
    errors.NotFound: (HTTPStatus.NOT_FOUND, "not-found"),
    errors.MethodNotAllowed: (HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed"),
    errors.Conflict: (HTTPStatus.CONFLICT, "resource-conflict"),
    errors.Gone: (HTTPStatus.GONE, "gone"),
    errors.TooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "payload-too-large"),
    errors.TooManyRequests: (HTTPStatus.TOO_MANY_REQUESTS, "rate-limited"),
    errors.Unavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    errors.TallymanError: (HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
}
_RULES: Final = {
    "missing": "required",
    "string_type": "is_string",
    "int_type": "is_integer",
    "int_parsing": "is_integer",
    "bool_type": "is_boolean",
    "bool_parsing": "is_boolean",
    "list_type": "is_array",
    "dict_type": "is_object",
    "model_type": "is_object",
    "union_type": "type",
    "model_attributes_type": "is_object",
    "extra_forbidden": "unknown_property",
    "string_pattern_mismatch": "matches_regex",
    "enum": "enum",
    "literal_error": "enum",
    "string_too_short": "min_length",
    "string_too_long": "max_length",
    "too_short": "min_items",
    "too_long": "max_items",
    "greater_than_equal": "min",
    "less_than_equal": "max",
}
_BOUNDS: Final = {
    "min_length": ("minimum", "min_length"),
    "min_items": ("minimum", "min_length"),
    "min": ("minimum", "ge"),
    "max_length": ("maximum", "max_length"),
    "max_items": ("maximum", "max_length"),
    "max": ("maximum", "le"),
}


def response(error: errors.TallymanError, trace: str) -> web.Response:
    """The answer to an error that was raised on purpose."""
    status, kind = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
    body: dict[str, Any] = {
        "status": status,
        "title": status.phrase,
        "type": TYPES + kind,
        "instance": f"kong:trace:{trace}",
        "detail": str(error),
        "code": error.code,
    }
    if isinstance(error, errors.InvalidInput) or (
        isinstance(error, errors.Conflict | errors.NotFound | errors.Gone) and error.parameters
    ):
        body["invalid_parameters"] = [_parameter(parameter) for parameter in error.parameters]
    if isinstance(error, errors.Conflict) and error.code != errors.Conflict.code:
        body["extensions"] = {"validationErrors": [{"code": error.code, "message": str(error)}]}
    if isinstance(error, errors.InvoiceActionNotAvailable):
        body["extensions"] = {"validationErrors": [{"code": error.code, "message": str(error)}]}
    if isinstance(error, errors.InvalidPlan):
        # The rules of `invalid_parameters` are a closed list; a plan's codes are not on it.
        for parameter in body["invalid_parameters"]:
            parameter["rule"] = "invalid"
        body["extensions"] = {
            "validationErrors": [
                {"code": one.rule, "message": one.reason, "field": one.field}
                for one in error.parameters
            ]
        }
    if isinstance(error, errors.InvalidQuery):
        body["extensions"] = {
            "validationErrors": [
                {"code": error.code, "message": str(error), "field": f"$.{parameter.field}"}
                for parameter in error.parameters
            ]
        }
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE)


def invalid_body(err: ValidationError) -> errors.InvalidInput:
    """What pydantic found in a body, each with its rule; what was sent is not repeated."""
    parameters = [_of_pydantic(found) for found in err.errors(include_url=False)]
    first = parameters[0]
    more = f" (and {len(parameters) - 1} more)" if len(parameters) > 1 else ""
    return errors.InvalidInput(f"{first.field} {first.reason}{more}", parameters)


def _of_pydantic(found: ErrorDetails) -> InvalidParameter:
    rule = _RULES.get(found["type"], "invalid")
    if found["type"].startswith(("datetime", "timezone")):
        rule = "is_date_time"
    context = found.get("ctx", {})
    extra: dict[str, Any] = {}
    if rule in _BOUNDS:
        name, bound = _BOUNDS[rule]
        extra[name] = context.get(bound, 0)
    if rule == "enum":
        extra["choices"] = _choices(str(context.get("expected", "")))
    if "rule" in context:
        rule = str(context["rule"])
    return InvalidParameter(_path(found["loc"]), rule, _reason(found["msg"]), extra=extra)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        if isinstance(step, str) and step.startswith("<"):
            continue  # which member of a union it is about
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path.removesuffix(".[key]") or "body"


def _reason(message: str) -> str:
    message = message.removeprefix("Value error, ")
    for opening in ("Input should ", "String should ", "Object should ", "List should "):
        if message.startswith(opening):
            return "must " + message.removeprefix(opening)
    return {"Field required": "is required", "Extra inputs are not permitted": "is not known"}.get(
        message, message[0].lower() + message[1:]
    )


def _choices(expected: str) -> list[str]:
    return [choice.strip().strip("'") for choice in expected.replace(" or ", ", ").split(", ")]


def _parameter(parameter: InvalidParameter) -> dict[str, Any]:
    return {
        "field": parameter.field,
        "rule": parameter.rule,
        "reason": parameter.reason,
        "source": parameter.source,
        **parameter.extra,
    }
