"""Who asks: an API key's roles, called scopes on the wire, and what each reaches.

It does not know keys as they are stored: see `store/api_keys.py`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DEFAULT_NAMESPACE: Final = "default"
LOCAL: Final = "local"  # a command of this machine; the audit log has its name and user
JOB: Final = "job:billing"  # billing, by itself


class Scope(StrEnum):
    """A role of a key: what it may do in its namespace.

    `ingest` sends events, `read` reads everything. `billing` reads too, and changes who is billed
    and their invoices; `admin` may do everything, so it alone changes what is counted and what it
    costs.
    """

    INGEST = "ingest"
    READ = "read"
    BILLING = "billing"
    ADMIN = "admin"


_REACHED: Final = {
    Scope.INGEST: frozenset({Scope.INGEST}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.BILLING: frozenset({Scope.READ, Scope.BILLING}),
    Scope.ADMIN: frozenset(Scope),
}


def holders(needed: Scope) -> tuple[Scope, ...]:
    """The roles that reach what needs this one, the least first."""
    return tuple(scope for scope in Scope if needed in _REACHED[scope])


@dataclass(frozen=True)
class Caller:
    """Whose request it is; the namespace comes from here and never from a body.

    `actor` is the API key's id, `command:NAME:USER` for this machine's own commands, or LOCAL.
    """

    namespace: str
    scopes: frozenset[Scope]
    actor: str = LOCAL

    def may(self, scope: Scope) -> bool:
        """Whether one of the scopes reaches it."""
        return any(scope in _REACHED[mine] for mine in self.scopes)
