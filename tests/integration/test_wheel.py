"""Builds the wheel as an installation does, with Rust's compiler and without.

Owns nothing of what the compiled reader reads: tests/unit/tallyman/store has that.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CRATE = "collector/event_reader"
READER = "tallyman/event_reader.abi3.so"
COMPILED = ROOT / CRATE / "target"
HAS_COMPILED = COMPILED.exists() and (ROOT / "collector" / READER).exists()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the wheel is made of, with a library that an older source made."""
    project = tmp_path / "project"
    for folder in ("plugin/tallyman_kong", "collector/tallyman", CRATE):
        shutil.copytree(
            ROOT / folder,
            project / folder,
            ignore=shutil.ignore_patterns("target", "__pycache__", "*.so"),
        )
    for file in ("pyproject.toml", "hatch_build.py", "README.md", ".gitignore"):
        shutil.copy(ROOT / file, project)
    (project / "collector" / READER).write_bytes(b"old")
    return project


def wheel(project: Path, path: str) -> tuple[zipfile.ZipFile, str]:
    """What was built, and what was said meanwhile."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel"],
        cwd=project,
        env={**os.environ, "PATH": path, "CARGO_BUILD_JOBS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (file,) = (project / "dist").iterdir()
    return zipfile.ZipFile(file), built.stdout + built.stderr


@pytest.mark.skipif(
    not (HAS_COMPILED and shutil.which("cargo")), reason="the installation compiled nothing"
)
def test_a_wheel_has_the_compiled_reader_where_cargo_is(project: Path) -> None:
    # Together with the crates that the installation compiled, it takes seconds.
    (project / CRATE / "target").symlink_to(COMPILED)

    built, _ = wheel(project, os.environ["PATH"])

    assert built.filename is not None
    assert "-cp311-abi3-" in built.filename
    assert built.read(READER) != b"old"
    assert {Path(name).suffix for name in built.namelist()}.isdisjoint({".rs", ".lock", ".rlib"})


def test_without_cargo_the_wheel_is_pure_python_and_says_why(project: Path) -> None:
    built, said = wheel(project, "")

    assert built.filename is not None
    assert built.filename.endswith("-py3-none-any.whl")
    assert READER not in built.namelist()
    assert "there is no cargo on the PATH" in said
    assert "a third as quickly" in said


def test_without_the_crate_the_wheel_is_pure_python_and_nothing_is_said_of_it(
    project: Path,
) -> None:
    """As in the plugin's image."""
    shutil.rmtree(project / CRATE)

    built, said = wheel(project, "")

    assert READER not in built.namelist()
    assert "cargo" not in said
