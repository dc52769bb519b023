"""Owns the curl lines of a walkthrough: reads them by name from a file, and runs them as they stand.

It does not know what they ask for.
"""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.rigs.rest import Answer

TITLE = re.compile(r"^#: (.+)\n", re.MULTILINE)


class Lines:
    """A file of curl lines, each below its title (`#: title`), run with bash in an environment."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        _, *parts = TITLE.split(file.read_text())
        self._lines = dict(zip(parts[::2], parts[1::2], strict=True))
        self._environment = {**os.environ, **environment}
        self.not_run = set(self._lines)

    def run(self, title: str, **environment: str) -> Answer:
        """Run one of them, with more in its environment; it must get an answer."""
        self.not_run.discard(title)
        line = self._lines[title].strip().replace("http://localhost:8000", "$APP_URL")
        done = subprocess.run(
            ["bash", "-c", f"{line} --silent --show-error --write-out '\\n%{{http_code}}'"],
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 0, f"{title}: {done.stderr}"
        body, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), json.loads(body) if body else None)
