"""Owns the killing: a world lives in a forked process, is killed at a durable step, and lives again.

It does not know what a world does. A world is deterministic and finds out from its folder where it was;
it ends by writing what it has come to.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tallyman_kong import durable_step

LIVES = 4
Live = Callable[[Path, int], Coroutine[Any, Any, dict[str, Any]]]
RESULT = "result.json"


def in_a_process(work: Callable[[], None]) -> int:
    """Run it in a process of its own, and give how it ended; nothing may be open yet in this one."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as err:  # noqa: BLE001 – it is said, and the process ends
            sys.stderr.write(f"{type(err).__name__}: {err}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def once(live: Live, folder: Path, seed: int, fault: str) -> int:
    """One life of the world, up to the fault or to its end."""

    def work() -> None:
        durable_step.arm(fault)
        result = asyncio.run(live(folder, seed))
        result["reached"] = dict(durable_step.reached)
        (folder / RESULT).write_text(json.dumps(result))

    return in_a_process(work)


def lives(live: Live, base: Path, seed: int, fault: str) -> dict[str, Any]:
    """What the world has come to after a life that the fault ended, and as many as it then needs.

    How often a step is reached can depend on time, as batches do: a fault that comes at a time which
    this life never reached is put at an earlier one.
    """
    folder, asked = base / "world", fault
    ends = [once(live, afresh(base), seed, fault)]
    while ends == [0] and (fault := earlier(fault, folder)):
        ends = [once(live, afresh(base), seed, fault)]
    while ends[-1] != 0 and len(ends) < LIVES:
        ends.append(once(live, folder, seed, ""))
    found: dict[str, Any] = {"fault": fault or asked, "ends": ends}
    if ends[-1] == 0:
        found |= json.loads((folder / RESULT).read_text())
    return found


def afresh(base: Path) -> Path:
    """The world as it was prepared."""
    shutil.rmtree(base / "world")
    shutil.copytree(base / "template", base / "world", symlinks=True)
    return base / "world"


def earlier(fault: str, folder: Path) -> str:
    """The same step at the last time that the life in the folder reached it; nothing if it did not."""
    step, _, number = fault.rpartition(":")
    reached: int = json.loads((folder / RESULT).read_text())["reached"].get(step, 0)
    number_now = min(reached, int(number) - 1) if number else 0
    return f"{step}:{number_now}" if number_now else ""


def serve(prepare: Live, live: Live) -> None:
    """Live once for each fault that standard input names, and print what came of it, a line each."""
    base, seed = Path(sys.argv[1]), int(sys.argv[2])
    folder = base / "world"  # chDB keeps its own path: a copy must be at the same place
    folder.mkdir(parents=True)
    ended = once(prepare, folder, seed, "")
    assert ended == 0, "the world could not be prepared"
    shutil.copytree(folder, base / "template", symlinks=True)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(lives(live, base, seed, line.strip())) + "\n")
        sys.stdout.flush()
