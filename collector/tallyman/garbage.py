"""Owns how often Python looks for cycles of objects that nothing refers to.

By default it does so after every 700 new objects, and a batch of events is a hundred thousand of them,
none in a cycle: a quarter of the processor time of an event.
"""

import gc
from typing import Final

_NEW_OBJECTS: Final = 100_000


def collect_rarely() -> None:
    """Look for cycles after 100,000 new objects, and never at what is there already."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
