"""Owns how hard the faults are tried: short in `make test`, long in `make faults`; and the seed.

FAULTS=long tries everything, from a new seed each time; the short form is the same on every run.
FAULTS_SEED repeats a run.
"""

import os
import random

import pytest

IS_LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULTS_SEED", "0")) or (
    random.SystemRandom().randrange(1, 10**6) if IS_LONG else 1
)


@pytest.fixture
def seed() -> int:
    return SEED


def repeat_with(test: str) -> str:
    """The command that repeats a test as it was."""
    length = "FAULTS=long " if IS_LONG else ""
    return f"seed {SEED}; again: {length}FAULTS_SEED={SEED} .venv/bin/pytest {test}"
