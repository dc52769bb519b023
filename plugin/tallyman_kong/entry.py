"""Reads the JSON of Kong's log, the same way on every way in; what it says is `usage.py`'s."""

import json
from typing import Any


def decode(text: str | bytes) -> Any:
    """Parse an entry of the log, or an array of them.

    Kong passes the bytes of headers on as clients sent them: what is not UTF-8 becomes U+FFFD.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deep.
    """
    return json.loads(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
