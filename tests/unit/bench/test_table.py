"""The table of docs/performance.md and the file that it is made from."""

import json
from pathlib import Path

from bench.figure import Figure
from bench.table import BEGIN, END, keyed, put_into, render, summaries

ROOT = Path(__file__).parents[3]


def test_the_page_shows_what_the_results_say() -> None:
    results = json.loads((ROOT / "bench" / "results.json").read_text())
    page = (ROOT / "docs" / "performance.md").read_text()

    assert put_into(page, render(results)) == page


def test_a_ratio_is_made_within_a_round_before_rounds_are_compared() -> None:
    """A machine that is ten times slower in one round changes no ratio."""
    rounds = [
        [Figure("base", base, "requests/s"), Figure("read", base / 4, "requests/s", "base", "> 9")]
        for base in (1000.0, 100.0, 400.0)
    ]

    assert summaries("api", rounds) == [
        {
            "bench": "api",
            "name": "base",
            "unit": "requests/s",
            "median": 400,
            "least": 100,
            "greatest": 1000,
        },
        {
            "bench": "api",
            "name": "read",
            "unit": "requests/s",
            "median": 100,
            "least": 25,
            "greatest": 250,
            "baseline": "base",
            "ratio": 0.25,
            "goal": "> 9",
        },
    ]


def test_a_key_is_the_ratio_where_there_is_a_baseline() -> None:
    figures = [
        Figure("base", 200.0, "events/s", key="limit"),
        Figure("way", 150.0, "events/s", "base", key="way_vs_limit"),
        Figure("other", 7.0, "ms"),
    ]

    assert keyed(summaries("ingest", [figures])) == {"limit": 200, "way_vs_limit": 0.75}


def test_only_what_is_between_the_marks_is_written() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    assert put_into(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
