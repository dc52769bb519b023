"""What has arrived of calls before anything is made good, and a sender whose bug must be found by that.

It asks no store, and knows nothing of what may lack.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tallyman_kong.delivery import Delivery
from tallyman_kong.spool import Spooled

from tests.faults.traffic import Call


class AcknowledgesFirst(Delivery):
    """Acknowledges before it sends: a kill between the two loses a batch."""

    async def _send(self, batch: list[Spooled]) -> None:
        await self._acknowledge([event.position for event in batch], "http")
        await super()._send(batch)


DELIVERIES = {"": Delivery, "acknowledges_first": AcknowledgesFirst}


def compared(
    these: Sequence[Call],
    stored: Sequence[str],
    counted: Mapping[str, int],
    may_lack: Collection[str],
) -> dict[str, Any]:
    """How many ids lack, which of them may not, and whether the meter counted just those that are stored."""
    tokens = {name: number for call in these for name, number in call.tokens_by_id.items()}
    lacks = tokens.keys() - set(stored)
    sums = {
        kind: sum(tokens[name] for name in stored if name.endswith(f":{kind}"))
        for kind in ("request", "response")
    }
    return {
        "lacks": len(lacks),
        "unexplained": sorted(lacks - set(may_lack)),
        "adds_up": counted == sums and len(set(stored)) == len(stored),
    }
