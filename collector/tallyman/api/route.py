"""One entry of the route table: where a handler is, who may call it, and how it is described."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiohttp import web

from tallyman.domain.access import Scope

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Content = Mapping[str, Any]  # media type → a pydantic model, a msgspec type, or a JSON Schema

JSON: Final = "application/json"
PREFIXES: Final = ("/api/v3/openmeter", "/v3/openmeter", "/openmeter")


class Parameters(Protocol):
    """The query parameters of a route, as far as the OpenAPI document is concerned."""

    def describe(self) -> list[dict[str, Any]]:
        """The parameters for the OpenAPI document."""


@dataclass(frozen=True)
class Answered:
    """A successful answer."""

    status: int
    description: str
    content: Content = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """`scope` None is open. `openmeter` puts the path below each of PREFIXES.

    `basic` takes the key from a browser too. Without `choices` a name in the path may be anything. `problems` are the errors beside those that every
    route has.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    name: str
    summary: str
    answered: Answered
    description: str = ""
    body: Content = field(default_factory=dict)
    body_required: bool = True
    parameters: Parameters | None = None
    problems: tuple[int, ...] = ()
    openmeter: bool = True
    basic: bool = False
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def pattern(self, path: str) -> str:
        """A path as the router knows it, where `choices` are all that a name in it may be."""
        for name, values in self.choices.items():
            path = path.replace(f"{{{name}}}", f"{{{name}:{'|'.join(values)}}}")
        return path

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the handler is; the first is the one in the OpenAPI document."""
        if not self.openmeter:
            return (self.path,)
        return tuple(prefix + self.path for prefix in PREFIXES)
