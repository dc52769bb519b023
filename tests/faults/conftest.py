"""Owns how hard the faults are tried: short in `make test`, long in `make faults`; and the seed.

FAULTS=long tries everything, from a new seed each time; the short form is the same on every run.
FAULTS_SEED repeats a run; each failure says how.
"""

import os
import random
import shlex
from collections.abc import Generator

import pytest

IS_LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULTS_SEED", "0")) or (
    random.SystemRandom().randrange(1, 10**6) if IS_LONG else 1
)


@pytest.fixture
def seed() -> int:
    return SEED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed, at whatever, says how to repeat it."""
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("Seed", repeat_with(item.nodeid)))
    return report


def repeat_with(test: str) -> str:
    """The command that repeats a test as it was."""
    length = "FAULTS=long " if IS_LONG else ""
    if minutes := os.environ.get("FAULTS_MINUTES"):
        length += f"FAULTS_MINUTES={minutes} "
    return f"seed {SEED}; again: {length}FAULTS_SEED={SEED} .venv/bin/pytest {shlex.quote(test)}"
