"""Makes the OpenAPI document from the route table and the types that the handlers read and write."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tallyman import __version__
from tallyman.api import event_bodies, problems
from tallyman.api.documentation import FILES, START
from tallyman.api.route import Content, Route
from tallyman.api.wire import NO_NUL, RESOURCE_KEY, ULID_PATTERN
from tallyman.domain.billing_profile import App
from tallyman.domain.event import CloudEvent

REFERENCE: Final = "#/components/schemas/{name}"
EVERYWHERE: Final = (400, 500, 503)
DESCRIPTION: Final = """\
OpenMeter's v3 API, and paths of Tallyman's own. Each path below `/api/v3/openmeter` is also below
`/v3/openmeter` and `/openmeter`. Send an API key with every request:
`Authorization: Bearer tm_…`. Unknown query parameters and fields are refused.
"""
_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "meterId": {
        "description": "The meter's id or key.",
        "schema": {"type": "string", "pattern": f"{ULID_PATTERN}|{RESOURCE_KEY}"},
    },
    "featureId": {
        "description": "The feature's id or key.",
        "schema": {"type": "string", "pattern": f"{ULID_PATTERN}|{RESOURCE_KEY}"},
    },
    "planId": {
        "description": "The id of the version of the plan.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "priceId": {
        "description": "The price's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "heldId": {
        "description": "The id of the price that waits for a decision.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "appId": {
        "description": "The app's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "appType": {
        "description": "The type of the app.",
        "schema": {"type": "string", "enum": [str(app) for app in App]},
    },
    "customerId": {
        "description": "The customer's id or key.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": NO_NUL},
    },
    "subjectIdOrKey": {
        "description": "A subject that is a customer's.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": NO_NUL},
    },
    "grantId": {
        "description": "The grant's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "currency": {
        "description": "The currency of the credit.",
        "schema": {"type": "string", "pattern": "^[A-Z]{3}$"},
    },
    "creditGrantId": {
        "description": "The credit grant's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "subscriptionId": {
        "description": "The subscription's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "invoiceId": {
        "description": "The invoice's id or number.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": NO_NUL},
    },
    "creditNoteId": {
        "description": "The credit note's id or number.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": NO_NUL},
    },
    "refundId": {
        "description": "The refund's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "lineId": {
        "description": "The line's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "featureKey": {
        "description": "The feature's key.",
        "schema": {"type": "string", "pattern": RESOURCE_KEY},
    },
    "profileId": {
        "description": "The billing profile's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "clockId": {
        "description": "The test clock's id.",
        "schema": {"type": "string", "pattern": ULID_PATTERN},
    },
    "link": {
        "description": "What was answered when the link was made.",
        "schema": {"type": "string", "minLength": 1, "pattern": r"^[A-Za-z0-9_.-]+$"},
    },
    "file": {
        "description": "One of the page's files.",
        "schema": {"type": "string", "enum": [*FILES, START]},
    },
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status", "title", "type", "instance", "detail", "code"],
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "type": {"type": "string"},
        "instance": {"type": "string"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "invalid_parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "rule", "reason", "source"],
                "properties": {
                    "field": {"type": "string"},
                    "rule": {"type": "string"},
                    "reason": {"type": "string"},
                    "source": {"enum": ["body", "query", "path", "header"]},
                    "minimum": {"type": "integer"},
                    "maximum": {"type": "integer"},
                    "choices": {"type": "array"},
                },
            },
        },
        "extensions": {"type": "object"},
    },
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    routes = tuple(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.paths[0], {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tallyman", "version": __version__, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "browser": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "An API key as the password, for pages in a browser.",
                },
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    answered: dict[str, Any] = {"description": route.answered.description}
    if route.answered.content:
        answered["content"] = _content(route.answered.content)
    statuses = sorted({*EVERYWHERE, *route.problems, *((401, 403) if route.scope else ())})
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": ["OpenMeter" if route.openmeter else "Tallyman"],
        "security": _security(route),
        "responses": {
            str(route.answered.status): answered,
            **{str(status): _problem(status) for status in statuses},
        },
    }
    scope = f" Scope: `{route.scope}`." if route.scope else ""
    if description := f"{route.description}{scope}".strip():
        operation["description"] = description
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": _content(route.body),
        }
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.scope is None:
        return []
    return [{"key": []}, {"browser": []}] if route.basic else [{"key": []}]


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, **described}
        for name, described in _PATH_PARAMETERS.items()
        if f"{{{name}}}" in route.path
    ]
    return in_path + (route.parameters.describe() if route.parameters is not None else [])


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {problems.CONTENT_TYPE: {"schema": {"$ref": REFERENCE.format(name="Problem")}}},
    }


def _content(content: Content) -> dict[str, Any]:
    return {media_type: {"schema": _schema(form)} for media_type, form in content.items()}


def _schema(form: Any) -> dict[str, Any]:
    if isinstance(form, dict):
        return form
    if isinstance(form, type) and issubclass(form, BaseModel):
        return {"$ref": REFERENCE.format(name=form.__name__)}
    if form == list[CloudEvent]:
        return {"type": "array", "items": _schema(CloudEvent)}
    if form == CloudEvent | list[CloudEvent]:
        return {"anyOf": [_schema(CloudEvent), _schema(list[CloudEvent])]}
    return {"$ref": REFERENCE.format(name=form.__name__)}


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    models: list[tuple[type[BaseModel], Any]] = []
    structs: list[type[msgspec.Struct]] = []
    for route in routes:
        for form, mode in (
            *((form, "validation") for form in route.body.values()),
            *((form, "serialization") for form in route.answered.content.values()),
        ):
            if isinstance(form, type) and issubclass(form, BaseModel):
                models.append((form, mode))
            elif form is CloudEvent:
                structs.append(event_bodies.describable(CloudEvent))
            elif isinstance(form, type) and issubclass(form, msgspec.Struct):
                structs.append(form)
    _, of_models = models_json_schema(
        models, ref_template=REFERENCE.replace("{name}", "{model}"), by_alias=True
    )
    _, of_structs = msgspec.json.schema_components(structs, ref_template=REFERENCE)
    return {**of_models.get("$defs", {}), **of_structs, "Problem": _PROBLEM}
