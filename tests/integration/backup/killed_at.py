"""Owns a process that backs up or restores, and is killed after the step that it is told; a program.

Without a step it prints each as it is done.
"""

import os
import signal
import sys
from pathlib import Path

from tallyman.backup.backup import back_up
from tallyman.backup.restore import restore


def main(action: str, directory: Path, other: Path, wanted: str = "") -> None:
    def step(name: str) -> None:
        if not wanted:
            sys.stdout.write(f"{name}\n")
        elif name == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    if action == "back up":
        back_up(directory, other, step)
    else:
        restore(directory, other, replace=True, step=step)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
