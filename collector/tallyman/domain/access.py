"""Who asks: an API key's scopes, and what each reaches.

It does not know keys as they are stored: see `store/api_keys.py`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DEFAULT_NAMESPACE: Final = "default"
LOCAL: Final = "local"


class Scope(StrEnum):
    """What a key may do. `admin` may do everything in its namespace."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """Whose request it is; the namespace comes from here and never from a body.

    `actor` is the API key's id, or LOCAL for this machine's own commands.
    """

    namespace: str
    scopes: frozenset[Scope]
    actor: str = LOCAL

    def may(self, scope: Scope) -> bool:
        """Whether one of the scopes reaches it."""
        return scope in self.scopes or Scope.ADMIN in self.scopes
