"""Runs benchmarks, several rounds in turn: `python -m bench.run [--quick] [--rounds N] [NAME …]`.

Writes bench/results.json and the table of docs/performance.md, where what is not run stays as it was;
with `--quick` it runs one short round and only prints the table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import table
from bench.figure import Figure

ROOT = Path(__file__).parents[1]
BENCHES = (
    "ingest",
    "scaling",
    "http_ingest",
    "memory",
    "visible",
    "queries",
    "queries_100m",
    "plugin",
    "plugin_memory",
    "http_sink",
    "spool",
    "api",
    "rating",
    "entitlements",
    "billing",
)
BY_HAND = ("queries_100m",)  # only where it is named
ROUNDS = 3
RESULTS = ROOT / "bench" / "results.json"
VERSIONS = ("aiohttp", "chdb", "sqlalchemy")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("benches", nargs="*", metavar="NAME", choices=BENCHES)
    asked = parser.parse_args()
    is_quick = bool(asked.quick)
    named = asked.benches or [bench for bench in BENCHES if bench not in BY_HAND]
    benches = [bench for bench in BENCHES if bench in named]
    rounds: list[dict[str, list[Figure]]] = []
    for number in range(1, (1 if is_quick else asked.rounds) + 1):
        rounds.append({})
        for bench in benches:
            print(f"round {number}: {bench} …", file=sys.stderr, flush=True)
            rounds[-1][bench] = run(bench, is_quick)
    taken = {"taken_on": datetime.now(UTC).date().isoformat(), "rounds": len(rounds)}
    measured = [
        {**summary, **taken}
        for bench in benches
        for summary in table.summaries(bench, [found[bench] for found in rounds])
    ]
    kept = [] if is_quick else json.loads(RESULTS.read_text())["figures"]
    figures = sorted(
        [*(figure for figure in kept if figure["bench"] not in benches), *measured],
        key=lambda figure: BENCHES.index(figure["bench"]),
    )
    results = {"machine": machine(), "keys": table.keyed(figures), "figures": figures}
    print(table.render(results))
    if not is_quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        page = ROOT / "docs" / "performance.md"
        page.write_text(table.put_into(page.read_text(), table.render(results)))


def run(bench: str, is_quick: bool) -> list[Figure]:
    """One benchmark in a process of its own: each finds memory and chDB as a user would."""
    command = [sys.executable, "-m", f"bench.{bench}", *(["--quick"] if is_quick else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [Figure.read(line) for line in done.stdout.splitlines()]


def machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **{it: version(it) for it in VERSIONS}},
    }


if __name__ == "__main__":
    main()
