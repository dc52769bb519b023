"""What putting a catalogue in force does to one thing, or would do.

It does not do it: see `apply.py`.
"""

from typing import Literal

import msgspec

from tallyman.api.catalogue.documents import difference
from tallyman.domain.plan_document import Document

Kind = Literal["meter", "feature", "plan", "customer", "subscription"]


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """`lines` are values that are no more (-) and new ones (+); `customer_id` is whom it is about.

    `warning` is what the user may not have meant; `filtered` says that events decide what counts.
    """

    kind: Kind
    key: str
    action: Literal["made", "changed", "unchanged"]
    note: str = ""
    lines: list[str] = []
    customer_id: str = ""
    warning: str = ""
    filtered: bool = False


class InvoiceChange(msgspec.Struct, frozen=True):
    """What a customer's next invoice comes to, before and after."""

    customer: str
    currency: str
    before: str
    after: str
    by: str


class Outcome(msgspec.Struct, frozen=True):
    """`invoices` are those that would come to something else; None where nobody looked.

    `losses` are rate cards of the file that sell for less than the providers take, as sentences.
    """

    changes: list[Change]
    invoices: list[InvoiceChange] | None = None
    losses: list[str] = []

    @property
    def has_filters(self) -> bool:
        """Whether events would have to be asked what some feature counts."""
        return any(one.filtered for one in self.changes)

    def warned_as(self, other: "Outcome") -> "Outcome":
        """The same, with the warnings of another of the same file."""
        said = {(one.kind, one.key): one.warning for one in other.changes}
        return Outcome(
            [
                msgspec.structs.replace(one, warning=said.get((one.kind, one.key), one.warning))
                for one in self.changes
            ],
            self.invoices,
            self.losses,
        )


def made(kind: Kind, key: str, after: Document) -> Change:
    """Something that was not there."""
    return Change(kind, key, "made", lines=difference({}, after))


def changed(kind: Kind, key: str, before: Document, after: Document) -> Change:
    """Something that is another from now on."""
    return Change(kind, key, "changed", lines=difference(before, after))


def unchanged(kind: Kind, key: str) -> Change:
    """Something that is as the file has it."""
    return Change(kind, key, "unchanged")


def about(change: Change, customer_id: str = "", note: str = "") -> Change:
    """The change with whom it is about, and what else is to be said."""
    return msgspec.structs.replace(change, customer_id=customer_id, note=note)
