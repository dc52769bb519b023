"""Owns what the plugin makes of the calls that a real Kong recorded."""

import json
from pathlib import Path

from tallyman_kong.spool import Group, Spool
from tallyman_kong.usage import configuration, read

RECORDINGS = sorted((Path(__file__).parents[1] / "golden").glob("kong-*/*.json"))


def spooled(folder: Path) -> list[bytes]:
    """Their events as the plugin's spool hands them over."""
    entries = [json.loads(path.read_text())["serialized_log"] for path in RECORDINGS]
    events = [one for entry in entries for one in read(entry, configuration(None)).events]
    spool = Spool(folder / "spool.db", "kong-1", max_bytes=10**9, survives_power_loss=False)
    spool.check()
    spool.append(Group([("sink", one) for one in events], len(entries), {"sink": "{}"}))
    found = [one.body.encode() for one in spool.read("sink", 10_000, 10**9)]
    assert len(found) == len(events) > 50
    return found
