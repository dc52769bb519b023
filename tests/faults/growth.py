"""Owns what of a soak may not grow: memory, file handles and threads of this process, and the disk.

It does not know what the soak does. What is stored takes room for ever, so the disk is measured for each
message, without what ClickHouse has merged and not yet deleted, which it keeps for eight minutes. Memory is what
the process holds: garbage is collected, and what the allocator keeps for later is given back.
"""

import ctypes
import gc
import json
import os
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tallyman.store.clickhouse import ClickHouse

MOST_MEMORY = 1.10  # of what it was in the first third
MOST_DISK = 1.10
MOST_MORE = 20  # file handles and threads
MOST_PARTS = 300  # that are not merged, of all tables


@dataclass(frozen=True)
class Size:
    memory_kb: int
    files: int
    threads: int
    parts: int
    disk_bytes_per_message: float


async def measure(clickhouse: ClickHouse, broker: Path, messages: int) -> Size:
    """How large everything is after so many messages; `broker` is the folder of its data."""
    rows = await clickhouse.rows(
        "SELECT count(), sum(bytes_on_disk) FROM system.parts "
        "WHERE active AND database = currentDatabase()"
    )
    return Size(
        memory_kb=_memory_kb(),
        files=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        parts=int(rows[0][0]),
        disk_bytes_per_message=(int(rows[0][1]) + used_bytes(broker)) / max(1, messages),
    )


def used_bytes(folder: Path) -> int:
    """What the files below take; Kafka's indexes are longer than that."""
    used = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                used += os.stat(os.path.join(path, name)).st_blocks * 512
            except FileNotFoundError:  # it went meanwhile
                continue
    return used


def check_flat(sizes: Sequence[Size]) -> None:
    """Nothing is larger in the last third than it was in the first, but for a little; prints both.

    The first size of all is left out: few messages have to bear what every disk begins with.
    """
    third = len(sizes) // 3
    assert third > 1, "the soak was too short to see anything grow"
    early, late = _of(sizes[1:third]), _of(sizes[-third:])
    seen = json.dumps([early, late, {"memory_mb": [one.memory_kb >> 10 for one in sizes]}])
    print(seen)  # noqa: T201 – what an hour showed
    assert late["memory_kb"] <= early["memory_kb"] * MOST_MEMORY, seen
    assert late["files"] <= early["files"] + MOST_MORE, seen
    assert late["threads"] <= early["threads"] + MOST_MORE, seen
    assert late["parts"] <= MOST_PARTS, seen
    assert late["disk_bytes_per_message"] <= early["disk_bytes_per_message"] * MOST_DISK, seen


def _memory_kb() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def _of(sizes: Sequence[Size]) -> Mapping[str, float]:
    """The most of each; of memory the median, since a batch under way comes and goes, and of the disk the
    least: what a consumer remembers anew at its start is there until it is merged."""
    each = [asdict(size) for size in sizes]
    return {name: max(one[name] for one in each) for name in each[0]} | {
        "memory_kb": statistics.median(size.memory_kb for size in sizes),
        "disk_bytes_per_message": min(size.disk_bytes_per_message for size in sizes),
    }
