"""A server on a data directory, to which Kong's log is replayed over its socket, to be killed anywhere.

`python -m tests.faults.server_world FOLDER SEED` takes faults on standard input.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from tallyman import app
from tallyman.api.state import EVENTS
from tallyman.config import Settings
from tallyman.kong_entry import events_of
from tallyman.stream.replay import Server, connect

from tests.faults.arrived import tokens_of
from tests.faults.embedded_world import PLUGIN
from tests.faults.forked import serve
from tests.faults.traffic import calls, expected, groups

CALLS, IN_A_BATCH = 6, 3
SOCKET = "tallyman.sock"  # in the folder, whose own path may be too long for a socket's


async def prepare(folder: Path, _seed: int) -> dict[str, Any]:
    """The tables, and when it all began."""
    runner = await running(folder)
    await runner.cleanup()
    (folder / "began").write_text(str(int(datetime.now(UTC).timestamp()) - 3600))
    return {}


async def live(folder: Path, seed: int) -> dict[str, Any]:
    """The log from its beginning to its end."""
    began = datetime.fromtimestamp(float((folder / "began").read_text()), UTC)
    log = calls(seed, CALLS, began)
    runner = await running(folder)
    os.chdir(folder)
    await web.UnixSite(runner, SOCKET).start()
    async with connect(Path(SOCKET)) as session:
        server = Server(session, "default")
        for these in groups(log, IN_A_BATCH):
            await server.take([event for call in these for event in events_of(call.entry, PLUGIN)])
    found = {
        "tokens": await tokens_of(runner.app[EVENTS]),
        "expected": expected(log),
        **dict.fromkeys(("lost", "missing", "taken_away", "waiting"), 0),
    }
    await runner.cleanup()
    return found


async def running(folder: Path) -> web.AppRunner:
    """The server's application, without what it does by itself."""
    settings = Settings(
        data_dir=folder,
        billing_interval_seconds=0,
        credit_interval_seconds=0,
        reconcile_interval_seconds=0,
        rollup_interval_seconds=0,
    )
    runner = web.AppRunner(app.build(settings), access_log=None)
    await runner.setup()
    return runner


if __name__ == "__main__":
    serve(prepare, live)
