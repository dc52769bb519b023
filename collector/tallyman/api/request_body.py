"""Reads a request's body: its content type, its size, its rules."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from tallyman.api.problems import invalid_body
from tallyman.api.route import JSON
from tallyman.errors import InvalidInput, InvalidParameter

Model = TypeVar("Model", bound=BaseModel)


def require_content_type(request: web.Request, *allowed: str) -> str:
    """The content type, without its parameters.

    Raises:
        InvalidInput: it is another.
    """
    content_type = request.content_type
    if content_type not in allowed:
        sent = "" if "Content-Type" in request.headers else ", and none was sent"
        reason = f"must be {' or '.join(allowed)}{sent}"
        raise InvalidInput(
            f"Content-Type {reason}",
            [
                InvalidParameter(
                    "Content-Type", "enum", reason, "header", {"choices": list(allowed)}
                )
            ],
        )
    return content_type


async def read_body(request: web.Request, model: type[Model], *, required: bool = True) -> Model:
    """The body as JSON of this form; one that is not required may be absent, and says nothing then.

    Raises:
        InvalidInput: it is not; every wrong field is named.
    """
    sent = await request.read()
    if not sent and not required:
        return model()
    require_content_type(request, JSON)
    try:
        return model.model_validate_json(sent)
    except ValidationError as err:
        raise invalid_body(err) from err
