"""The plugin's spool and sender as they are, and a server that they reach over HTTP, to be killed anywhere.

No log is replayed: what has not arrived in the end is lost.

`python -m tests.faults.sender_world FOLDER SEED` takes faults on standard input.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from tallyman import connections
from tallyman.api.state import KEYS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman_kong.delivery import SpoolAccess
from tallyman_kong.sender import make_client
from tallyman_kong.sink import HttpSink, Sink
from tallyman_kong.spool import Spool

from tests.faults.arrived import DELIVERIES, arrived
from tests.faults.embedded_world import NODE, SINK, group_of
from tests.faults.forked import serve
from tests.faults.server_world import prepare, running
from tests.faults.traffic import Call, calls, groups

CALLS, IN_A_GROUP = 12, 3


async def live(folder: Path, seed: int) -> dict[str, Any]:
    """Each group of calls is spooled, and sent, from wherever the last life ended."""
    logging.getLogger("tallyman_kong").setLevel(logging.CRITICAL)
    log = calls(seed, CALLS)
    runner = await running(folder)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    _, secret = await runner.app[KEYS].create("default", "gateway", [Scope.INGEST])
    sink = HttpSink(SINK.name, f"http://{host}:{port}/api/v3/openmeter/events", secret)
    spool = Spool(folder / "spool.db", NODE, max_bytes=10**9, survives_power_loss=True)
    may_lack: list[str] = []
    for number, these in enumerate(groups(log, IN_A_GROUP)):
        may_lack += spool_once(spool, these, folder / f"group-{number}")
        await deliver(spool, sink)
    waiting = spool.figures().waiting
    spool.close()
    await runner.cleanup()
    clickhouse = connections.open_clickhouse(Settings(data_dir=folder))
    found = await arrived(clickhouse, log, may_lack)
    await clickhouse.close()
    nothing = dict.fromkeys(("lost", "missing", "taken_away", "lost_on_purpose"), 0)
    return found | nothing | {"waiting": waiting}


def spool_once(spool: Spool, these: Sequence[Call], mark: Path) -> list[str]:
    """Kong hands a group over once. Gives the ids that may lack, since a kill cut off their append."""
    appended = mark.with_suffix(".appended")
    if not mark.exists():
        mark.touch()
        spool.append(group_of(these))
        appended.touch()
    return [] if appended.exists() else [name for call in these for name in call.tokens_by_id]


async def deliver(spool: Spool, sink: Sink) -> None:
    made = DELIVERIES[os.environ.get("BUG", "")]
    delivery = made(SpoolAccess(spool), sink, make_client)
    delivery.stop()
    await delivery.run()


if __name__ == "__main__":
    serve(prepare, live)
