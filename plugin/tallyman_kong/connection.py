"""A connection of Kong's: reads its messages, sends the answers, and never makes the loop wait.

What a message means is `conversation.py`'s; who may connect, and where, is `server.py`'s.
"""

import socket
from collections.abc import Callable
from typing import Any

import gevent
import msgpack

LARGEST_MESSAGE = 64 * 1024 * 1024
READ_BYTES = 64 * 1024
READABLE, WRITABLE = 1, 2
LATER_SECONDS = 0.01


class Connection:
    """Served by callbacks of gevent's loop: a greenlet would be switched to for each message.

    So `answer` must not wait either.
    """

    def __init__(
        self,
        accepted: socket.socket,
        answer: Callable[[Any], bytes],
        ended: Callable[["Connection", Exception | None], None],
        is_behind: Callable[[], bool],
    ) -> None:
        """`ended` is called once, with what ended it unless Kong, or `close`, did.

        While `is_behind`, Kong is not heard: what it has to say waits with Kong.
        """
        accepted.setblocking(False)
        self._socket = accepted
        self._answer = answer
        self._ended = ended
        self._is_behind = is_behind
        self._unsent = bytearray()
        self._messages = msgpack.Unpacker(
            strict_map_key=False, unicode_errors="replace", max_buffer_size=LARGEST_MESSAGE
        )
        loop = gevent.get_hub().loop
        self._reads = loop.io(accepted.fileno(), READABLE)
        self._writes = loop.io(accepted.fileno(), WRITABLE)
        self._later = loop.timer(LATER_SECONDS, LATER_SECONDS)
        self._reads.start(self._on_readable)

    def close(self) -> None:
        self._end(None)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
            if not data:
                self._end(None)
                return
            self._messages.feed(data)
            for message in self._messages:
                self._unsent += self._answer(message)
            if self._unsent:
                self._send()
            if not self._unsent and self._is_behind():
                self._reads.stop()
                self._later.start(self._on_later)
        except BlockingIOError:
            return
        except Exception as err:  # noqa: BLE001 - one connection's garbage is not another's
            self._end(err)

    def _on_writable(self) -> None:
        try:
            self._writes.stop()
            self._reads.start(self._on_readable)
            self._send()
        except Exception as err:  # noqa: BLE001 - as above
            self._end(err)

    def _on_later(self) -> None:
        if not self._is_behind():
            self._later.stop()
            self._reads.start(self._on_readable)

    def _send(self) -> None:
        """Send what can be; Kong is heard again when it has read the rest."""
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        del self._unsent[:sent]
        if self._unsent:
            self._reads.stop()
            self._writes.start(self._on_writable)

    def _end(self, err: Exception | None) -> None:
        if self._socket.fileno() < 0:
            return
        for watcher in (self._reads, self._writes, self._later):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._ended(self, err)
