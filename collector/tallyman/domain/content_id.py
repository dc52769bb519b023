"""Ids that come from what they name: made twice, they are the same.

It does not make ids for what users create: those are random.
"""

import hashlib
from datetime import datetime
from typing import Final

from ulid import ULID

from tallyman.domain.period import milliseconds

_SEPARATOR: Final = "\x1f"  # in no key and no id, so that ("a", "bc") and ("ab", "c") differ


def content_id(at: datetime, *parts: str) -> str:
    """A ULID of the time, which it sorts by, and of a hash of the parts in place of chance."""
    digest = hashlib.sha256(_SEPARATOR.join(parts).encode()).digest()
    return str(ULID.from_bytes(milliseconds(at).to_bytes(6, "big") + digest[:10]))
