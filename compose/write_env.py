"""Writes .env from .env.example with a random value for each empty secret.

It never changes an .env that is there: the volumes were made with its passwords.
"""

import os
import re
import secrets
import sys
from pathlib import Path


def main(root: Path) -> None:
    try:
        # 600: nobody else on the machine reads the passwords.
        descriptor = os.open(root / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(".env is there already and was left as it is")
    with open(descriptor, "w") as file:
        file.write(filled((root / ".env.example").read_text()))


def filled(example: str) -> str:
    """The text with a random value behind each `NAME=` that has none."""
    return re.sub(
        r"^(\w+)=$", lambda line: f"{line[1]}={secrets.token_hex(24)}", example, flags=re.MULTILINE
    )


if __name__ == "__main__":
    main(Path(__file__).parents[1])
