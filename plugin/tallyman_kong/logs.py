"""Log lines on stderr: plain, seldom repeated, and never waited for.

What may be in a line is decided where it is written: ids and reasons, never an entry's content.
"""

import atexit
import logging
import logging.handlers
import queue
import sys
import time

REPEAT_SECONDS = 10.0
EACH = {"each": True}  # `extra` of a line that is never held back


class Seldom(logging.Filter):
    """Lets a message through once per `REPEAT_SECONDS`, then says how often it was held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "each", False):
            return True
        key = (record.name, str(record.msg))
        logged_at, held_back = self._seen.get(key, (-REPEAT_SECONDS, 0))
        if record.created - logged_at < REPEAT_SECONDS:
            self._seen[key] = (logged_at, held_back + 1)
            return False
        self._seen[key] = (record.created, 0)
        if held_back:
            record.msg = f"{record.getMessage()} (and {held_back} more since)"
            record.args = None
        return True


def configure(level: str, process: str) -> None:
    """Log to stderr from a thread: a reader of stderr that stalls must not stall the hub."""
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(lines)
    handler.addFilter(Seldom())
    output = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {process}: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    output.setFormatter(formatter)
    listener = logging.handlers.QueueListener(lines, output)
    listener.start()
    atexit.register(listener.stop)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
