"""Compiles the reader of the plugin's events where Rust's cargo is, and puts it into the wheel.

hatchling runs it in every installation. By itself, `python hatch_build.py` compiles alone, or says why it
cannot. What is compiled is in collector/event_reader.
"""

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CRATE = "collector/event_reader"
LIBRARY = "collector/tallyman/event_reader.abi3.so"
WITHOUT = "Tallyman: the reader of events is not compiled, so Kafka is read a third as quickly"
CURE = "With Rust 1.83 or newer (cargo) on the PATH"


def compile_reader(root: Path) -> str | None:
    """Put the library where Python finds it, or give the reason why there is none."""
    try:
        (root / LIBRARY).unlink(missing_ok=True)  # one of an older source would store other rows
        reason = _run_cargo(root / CRATE)
        if reason is None:
            suffix = "dylib" if sys.platform == "darwin" else "so"
            compiled = root / CRATE / f"target/release/libevent_reader.{suffix}"
            shutil.copyfile(compiled, root / LIBRARY)
    except OSError as err:
        return str(err)
    return reason


def _run_cargo(crate: Path) -> str | None:
    if ".abi3.so" not in EXTENSION_SUFFIXES:
        return "this Python loads no library of the stable ABI"
    cargo = shutil.which("cargo")
    if cargo is None:
        return "there is no cargo on the PATH"
    run = subprocess.run(  # noqa: S603 – cargo itself
        [cargo, "build", "--release", "--color=never", "--target-dir=target"],
        cwd=crate,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode == 0:
        return None
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()] or ["no word"]
    first = next((line for line in lines if line.startswith("error")), lines[0])
    return f"{cargo} said: {first}; {lines[-1]}" if first != lines[-1] else f"{cargo} said: {first}"


def get_build_hook() -> "type[BuildHookInterface[Any]]":
    """What hatchling asks for; it is there only while it builds."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    from packaging.tags import sys_tags

    class EventReader(BuildHookInterface[Any]):
        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            root = Path(self.root)
            if not (root / CRATE).is_dir():  # the plugin's image: no collector
                return
            if reason := compile_reader(root):
                self.app.display_warning(f"{WITHOUT}: {reason}. {CURE}, install again.")
                return
            platform = next(
                tag.platform
                for tag in sys_tags()
                if not tag.platform.startswith(("manylinux", "musllinux"))
            )
            build_data["artifacts"].append(f"/{LIBRARY}")
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{platform}"

    return EventReader


if __name__ == "__main__":
    if reason := compile_reader(Path(__file__).parent):
        sys.exit(f"{WITHOUT}: {reason}. {CURE}: {sys.executable} hatch_build.py")
