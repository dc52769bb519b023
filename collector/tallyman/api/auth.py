"""Who asks: an API key, or this machine's own commands over the local socket.

What a route asks of the caller is in the route table.
"""

import base64
import binascii
import socket
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from tallyman.api.state import KEYS
from tallyman.domain.access import DEFAULT_NAMESPACE, LOCAL, Caller, Scope, holders
from tallyman.errors import Forbidden, Unauthenticated

# Of this machine's own commands alone.
LOCAL_NAMESPACE: Final = "Tallyman-Namespace"
LOCAL_ACTOR: Final = "Tallyman-Actor"
BEARER: Final = 'Bearer realm="tallyman"'
BASIC: Final = 'Basic realm="tallyman: an API key as the password", charset="UTF-8"'


async def authenticate(request: web.Request, *, basic: bool) -> Caller:
    """The caller; `basic` also lets a browser send the key, as the password of any user.

    Raises:
        Unauthenticated: no key was sent, or one that is not known or revoked.
    """
    if is_local(request):
        return _local(request)
    secret = _secret(request.headers.get("Authorization", ""), basic=basic)
    if secret is None:
        raise Unauthenticated("send an API key: Authorization: Bearer tm_…")
    caller = await request.app[KEYS].caller(secret)
    if caller is None:
        raise Unauthenticated("the API key is not known, or was revoked")
    return caller


def require(caller: Caller, scope: Scope) -> None:
    """Raises Forbidden if none of the caller's scopes reaches it."""
    if not caller.may(scope):
        raise Forbidden(f"this needs an API key with the role {' or '.join(holders(scope))}")


def challenge(error: Unauthenticated | Forbidden, scope: Scope | None, *, basic: bool) -> list[str]:
    """The values of WWW-Authenticate for a refusal."""
    if isinstance(error, Forbidden):
        return [f'{BEARER}, error="insufficient_scope", scope="{scope}"']
    return [BEARER, BASIC] if basic else [BEARER]


def _local(request: web.Request) -> Caller:
    namespace = unquote(request.headers.get(LOCAL_NAMESPACE, DEFAULT_NAMESPACE))
    actor = unquote(request.headers.get(LOCAL_ACTOR, LOCAL))
    return Caller(namespace, frozenset({Scope.ADMIN}), actor)


def is_local(request: web.Request) -> bool:
    """Whether it comes over the local socket, which is its owner's alone."""
    transport = request.transport
    listener = transport.get_extra_info("socket") if transport is not None else None
    return listener is not None and listener.family == socket.AF_UNIX


def _secret(header: str, *, basic: bool) -> str | None:
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value.isascii():
        return value or None
    if scheme.lower() == "basic" and basic:
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, ValueError):
            return None
    return None
