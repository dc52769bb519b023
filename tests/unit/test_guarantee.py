"""docs/guarantee.md names the tests that hold it; each must exist, and each promise must name one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
PROMISES = ROOT / "docs" / "guarantee.md"


def test_every_test_that_the_guarantee_names_exists() -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in DEFINED.findall(path.read_text())
    }

    assert set(NAMED.findall(PROMISES.read_text())) - defined == set()


def test_every_promise_names_the_test_that_holds_it() -> None:
    promised = PROMISES.read_text().split("## What is not promised")[0]
    promises = re.findall(r"^- (.*?)(?=^- |^## |^`make|\Z)", promised, re.MULTILINE | re.DOTALL)

    assert len(promises) > 20
    assert [promise for promise in promises if not NAMED.search(promise)] == []


def test_exactly_once_is_said_of_the_effect_alone() -> None:
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        for sentence in re.split(r"(?<=[.!?])\s", path.read_text()):
            if re.search(r"exactly[ -]once|exactly one delivery", sentence, re.IGNORECASE):
                assert "effect" in sentence, f"{path.name}: {sentence}"
