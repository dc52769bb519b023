"""Anything at all is survived: by hypothesis, and by atheris, which follows what code the bytes reach."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults import fuzz
from tests.faults.conftest import IS_LONG
from tests.rigs.stream import usage

SECONDS = "60" if IS_LONG else "3"
# As the marker in pyproject.toml: where there is one, a test without it fails.
HAS_ATHERIS = (
    sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 14)
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([2**53, 2**63, -1, "12", "NaN", 1e308, "", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "id", "source", "type", "subject", "time", "data", "dataschema", "nodeid", "sequence",
    "specversion", "datacontenttype",
)  # fmt: skip


@given(st.sampled_from(FIELDS), JSON)
def test_any_json_in_any_field_of_an_event_is_an_event_or_refused(name: str, value: object) -> None:
    fuzz.envelope(json.dumps({**json.loads(usage(1)), name: value}).encode("utf-8", "replace"))


@given(st.sampled_from([1, 10**30]), st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_anywhere_in_an_event_are_an_event_or_refused(
    tokens: int, data: bytes, at: int
) -> None:
    """A number that cannot be kept is read by other code than one that can."""
    event = usage(1, tokens)
    fuzz.envelope(event[:at] + data + event[at + len(data) :])


@given(st.text(alphabet="$.[]0'\"ab_-\\ ") | st.text(), JSON)
def test_any_path_is_read_or_refused_and_finds_a_text(path: str, value: object) -> None:
    fuzz.json_path(f"{path}\n{json.dumps(value)}".encode("utf-8", "replace"))


@settings(max_examples=settings().max_examples * 3)
@given(st.integers(0, 255), st.integers(0, 2**16 - 1), JSON)
def test_any_json_in_any_member_of_a_log_entry_gives_events_or_none(
    entry: int, member: int, value: object
) -> None:
    fuzz.usage(bytes([entry]) + member.to_bytes(2, "big") + json.dumps(value).encode())


@settings(max_examples=settings().max_examples * 2 // 5)
@given(st.binary(min_size=4, max_size=6000))
def test_any_bytes_anywhere_in_a_spool_are_survived(data: bytes) -> None:
    fuzz.spool(data)


@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris is for Linux on x86-64, up to Python 3.13")
@pytest.mark.parametrize("target", fuzz.TARGETS if IS_LONG else [fuzz.ANY])
def test_atheris_finds_nothing(target: str, seed: int, tmp_path: Path) -> None:
    """In the short form one process goes through all."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", target, SECONDS, str(seed)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "collector:plugin:.", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.findall(r"Done (\d+) runs", done.stderr)[-1]) > 100
