"""Makes the table of docs/performance.md out of what was measured.

It does not measure.
"""

import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from bench.figure import Figure

BEGIN: Final = "<!-- written by make bench -->"
END: Final = "<!-- until here -->"


def summaries(bench: str, rounds: Sequence[Sequence[Figure]]) -> list[dict[str, Any]]:
    """Each figure's median, least and greatest; a ratio is made within a round, then its median."""
    by_round = [{figure.name: figure for figure in figures} for figures in rounds]
    found = []
    for figure in rounds[0]:
        values = [figures[figure.name].value for figures in by_round]
        summary: dict[str, Any] = {
            "bench": bench,
            "name": figure.name,
            "unit": figure.unit,
            "median": significant(median(values)),
            "least": significant(min(values)),
            "greatest": significant(max(values)),
        }
        if figure.baseline is not None:
            ratios = [
                figures[figure.name].value / figures[figure.baseline].value for figures in by_round
            ]
            summary |= {"baseline": figure.baseline, "ratio": significant(median(ratios), 2)}
        if figure.goal is not None:
            summary["goal"] = figure.goal
        if figure.key is not None:
            summary["key"] = figure.key
        found.append(summary)
    return found


def keyed(summarised: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What each key is: the ratio where there is a baseline, the figure itself otherwise."""
    return {row["key"]: row.get("ratio", row["median"]) for row in summarised if "key" in row}


def significant(value: float, digits: int = 3) -> float:
    """Rounded to what a shared machine can tell apart."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def render(results: Mapping[str, Any]) -> str:
    """Markdown: on what, and a row a figure."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}; {versions}. Each figure "
        "is the median of its rounds, with the least and the greatest.",
        "",
        "| | what | figure | least – greatest | against | built for | taken on, rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["figures"]:
        against = f"{row['ratio']:g} × {row['baseline']}" if "ratio" in row else ""
        cells = (
            f"`bench/{row['bench']}.py`",
            row["name"],
            f"{row['median']:,} {row['unit']}",
            f"{row['least']:,} – {row['greatest']:,}",
            against,
            row.get("goal", ""),
            f"{row['taken_on']}, {row['rounds']}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def put_into(page: str, table: str) -> str:
    """The page with the table between its two marks."""
    pattern = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    return pattern.sub(lambda _: table + "\n", page)
