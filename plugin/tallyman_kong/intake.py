"""The way from Kong's log phase into the spool: a bounded queue, and the thread that empties it.

The hub only puts an entry in. Parsing, counting and the disk belong to the thread: the hub never
waits for it, nor takes a lock that it holds.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tallyman_kong import usage
from tallyman_kong.entry import decode
from tallyman_kong.metrics import BAD_ENTRIES, ENTRIES, INVALID_COUNTS, REFUSED, Count
from tallyman_kong.sink import Sink, without_secrets
from tallyman_kong.spool import Group, Spool
from tallyman_kong.spool_file import SpoolError

log = logging.getLogger("tallyman_kong.intake")

LARGEST_GROUP = 500  # entries in one transaction; the memory that it takes is not given back
GATHER_SECONDS = 0.01  # what is not yet on disk is at most this old, plus one commit
IDLE_SECONDS = 0.2
COUNTING_SECONDS = 3.0  # a stop may take longer by this, to count what was given up
STUCK_SECONDS = 5.0  # a spool that has taken nothing for so long is not waited for
OVERHEAD_BYTES = 500  # of an entry in the queue, beside its text


class Reader(NamedTuple):
    """What a plugin instance makes of entries: the counting rules, and where events go."""

    configuration: usage.UsageConfiguration
    sink: Sink
    stored_settings: str


def reader(configuration: usage.UsageConfiguration, sink: Sink) -> Reader:
    return Reader(configuration, sink, without_secrets(sink))


class _Entry(NamedTuple):
    reader: Reader
    text: Any
    size: int


class Intake:
    """Takes log entries from the hub and appends their events to the spool."""

    def __init__(
        self, spool: Spool, *, max_bytes: int, announce: Callable[[Sink], None] | None = None
    ) -> None:
        """`announce` is called on the thread with the sink of each instance; it may block."""
        self._spool = spool
        self._max_bytes = max_bytes
        self._announce = announce
        self._queue: queue.SimpleQueue[_Entry | Sink | None] = queue.SimpleQueue()
        # Each number has one writer, the hub or the thread, so none needs a lock.
        self._offered_bytes = 0
        self._taken_bytes = 0
        self._refused = dict.fromkeys(
            ("queue_full", "too_large", "configuration", "no_entry", "error"), 0
        )
        self._refused_written: Counter[Count] = Counter()
        self._given_up: Counter[Count] = Counter()  # counts of groups that were not kept
        self._moved_at = 0.0
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        self._moved_at = time.monotonic()
        self._thread.start()

    def add_sink(self, sink: Sink) -> None:
        self._queue.put(sink)

    def offer(self, entry: Any, reader: Reader) -> None:
        """Take an entry as `kong.log.serialize()` gave it. Never blocks; refuses when full."""
        size = OVERHEAD_BYTES + (len(entry) if isinstance(entry, str | bytes) else 0)
        if self._offered_bytes - self._taken_bytes + size > self._max_bytes:
            self.refuse("queue_full")
            return
        self._offered_bytes += size
        self._queue.put(_Entry(reader, entry, size))

    def is_behind(self) -> bool:
        """Whether half the queue is used, and the spool will make room soon.

        Kong can wait: its log phase runs after the answer. An entry that the queue has no room for
        is lost.
        """
        if self._offered_bytes - self._taken_bytes < self._max_bytes // 2:
            return False
        return time.monotonic() - self._moved_at < STUCK_SECONDS

    def refuse(self, reason: str) -> None:
        """Count an entry that is not taken; the thread writes and logs it."""
        self._refused[reason] += 1

    def stop(self, within_seconds: float) -> None:
        """Append what was taken, and end the thread; blocks, at most as long as is given."""
        self._give_up_at = time.monotonic() + within_seconds
        self._queue.put(None)
        self._thread.join(within_seconds + COUNTING_SECONDS)
        if self._thread.is_alive():
            log.error("the spool did not take all entries in %.0f s: they are lost", within_seconds)

    def _run(self) -> None:
        self._until_written(self._spool.check)
        going_on = True
        while going_on:
            items, going_on = self._take()
            self._moved_at = time.monotonic()
            try:
                self._append(self._read(items))
            except Exception as err:  # noqa: BLE001 - the plugin's border: the thread must live
                lost = sum(isinstance(item, _Entry) for item in items)
                log.error("%d log entries are lost: %s", lost, type(err).__name__)
                self._given_up[REFUSED.of(reason="error")] += lost
            self._taken_bytes += sum(item.size for item in items if isinstance(item, _Entry))
        self._append(Group())
        if self._given_up:
            log.error("the spool took nothing to the end: what is lost is not counted in it")

    def _append(self, group: Group) -> None:
        """Spool the group, with what was refused or given up since the last one that was written."""
        own, refused = Counter(group.counts), self._newly_refused()
        if full := refused[REFUSED.of(reason="queue_full")]:
            log.error("the queue was full: %d log entries refused", full)
        group.counts += refused + self._given_up
        if not (group.events or group.counts):
            return
        is_late = time.monotonic() >= self._give_up_at + COUNTING_SECONDS / 2
        if not (group.events and is_late) and self._until_written(
            lambda: self._spool.append(group)
        ):
            self._refused_written += refused
            self._given_up.clear()
            return
        self._give_up_at = 0.0  # from now on the disk is asked once, for the counts
        self._given_up += own + Counter({REFUSED.of(reason="stopping"): group.entries})
        log.error("%d log entries are lost at the stop", group.entries)

    def _newly_refused(self) -> Counter[Count]:
        counts = Counter(
            {REFUSED.of(reason=reason): refused for reason, refused in self._refused.items()}
        )
        return counts - self._refused_written

    def _take(self) -> tuple[list[_Entry | Sink], bool]:
        """What is in the queue, after waiting for the first; False once it was told to stop.

        It sleeps while more comes in: to be woken for each entry would cost the hub its turns.
        """
        items: list[_Entry | Sink] = []
        try:
            item = self._queue.get(timeout=IDLE_SECONDS)
            if item is not None and self._queue.qsize() < LARGEST_GROUP:
                time.sleep(GATHER_SECONDS)
            while item is not None:
                items.append(item)
                if len(items) == LARGEST_GROUP:
                    return items, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return items, True
        return items, False

    def _read(self, items: list[_Entry | Sink]) -> Group:
        group = Group()
        entries = 0
        for item in items:
            if isinstance(item, _Entry):
                entries += 1
                read_entry(item.text, item.reader, group)
            elif self._announce is not None:
                self._announce(item)
        if entries:
            group.counts[ENTRIES.of()] += entries
        return group

    def _until_written(self, write: Callable[[], object]) -> bool:
        """Do it again and again where the disk does not let it: the queue fills meanwhile.

        False where it was given up, at a stop.
        """
        pause = 0.1
        while True:
            try:
                write()
                return True
            except (sqlite3.Error, OSError, SpoolError) as err:
                log.error("the spool cannot be written, trying again: %s", err)
            left = self._give_up_at - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, 2.0)


def read_entry(text: Any, reader: Reader, group: Group) -> None:
    """Add an entry's events to the group; one that cannot be read is counted as bad."""
    try:
        entry = decode(text) if isinstance(text, str | bytes) else text
        if type(entry) is not dict and not isinstance(entry, Mapping):
            raise TypeError("the entry is no object")
        reading = usage.read(entry, reader.configuration)
    except Exception as err:  # noqa: BLE001 - the plugin's border: no entry may stop the thread
        group.counts[BAD_ENTRIES.of()] += 1
        log.warning("a log entry could not be read (%s): counted as bad", type(err).__name__)
        return
    if reading.bad:
        group.counts[BAD_ENTRIES.of()] += 1
        log.warning("a log entry is bad: %s", reading.bad)
    if reading.invalid_counts:
        group.counts[INVALID_COUNTS.of()] += reading.invalid_counts
    if reading.events:
        group.entries += 1
        group.sinks[reader.sink.name] = reader.stored_settings
        group.events.extend((reader.sink.name, event) for event in reading.events)
