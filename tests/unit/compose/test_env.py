"""`make env`: random secrets once, and never again."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

from tests.unit.compose.composed import ROOT, variables


def write_env(root: Path) -> subprocess.CompletedProcess[str]:
    (root / "compose").mkdir(exist_ok=True)
    shutil.copy(ROOT / ".env.example", root)
    shutil.copy(ROOT / "compose" / "write_env.py", root / "compose")
    return subprocess.run(
        [sys.executable, root / "compose" / "write_env.py"],
        check=False,
        capture_output=True,
        text=True,
    )


def secrets(root: Path) -> dict[str, str]:
    lines = (root / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_secret_is_random_and_fit_for_a_url(tmp_path: Path) -> None:
    write_env(tmp_path)

    written = secrets(tmp_path)
    random = [written[name] for name in variables()]
    assert all(value.isalnum() and len(value) >= 32 for value in random)
    assert len(set(random)) == len(random)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    write_env(tmp_path)

    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_one_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=mine\n")

    done = write_env(tmp_path)

    assert done.returncode == 1
    assert "left as it is" in done.stderr
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=mine\n"
