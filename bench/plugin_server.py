"""The plugin server of `plugin.py`: `python -m bench.plugin_server ours|noop SOCKET FOLDER`.

`ours` is the plugin with its spool, and writes how long a message held the server; `noop` is kong-pdk
in gevent mode, a greenlet for each connection and each event, with a handler that only asks for the
entry; `empty` is our own server with nothing behind it.
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, cast

import gevent
import gevent.event
import gevent.socket
import msgpack
from tallyman_kong.connection import READ_BYTES
from tallyman_kong.conversation import Conversation
from tallyman_kong.intake import Intake
from tallyman_kong.server import Server
from tallyman_kong.settings import PLUGIN_NAME
from tallyman_kong.spool import Spool

SPOOL = "spool.db"
LIMIT = 8 * 1024**3
QUEUE_LIMIT = 64_000_000  # the default


class NoIntake:
    """Takes everything, and nothing comes of it."""

    def add_sink(self, sink: Any) -> None: ...
    def offer(self, entry: Any, reader: Any) -> None: ...
    def refuse(self, reason: str) -> None: ...
    def is_behind(self) -> bool:
        return False

    def start(self) -> None: ...
    def stop(self, within_seconds: float) -> None: ...


class Asking:
    """A plugin of kong-pdk's that does nothing with the entry."""

    def __init__(self, config: Any) -> None: ...

    def log(self, kong: Any) -> None:
        kong.log.serialize()


class KongPdk(Conversation):
    """Each event as kong-pdk handles it: a greenlet of its own, a channel, a lock."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self._plugins.plugins[PLUGIN_NAME].cls = Asking
        self._answers["plugin.HandleEvent"] = self._plugins.handle_event
        self._answers["plugin.Step"] = self._plugins.step


class GreenletServer(Server):
    """Each connection as kong-pdk's listener handles it, without its debug lines."""

    def _take(self, accepted: Any, _address: Any) -> None:
        gevent.spawn(self._talk, gevent.socket.socket(fileno=accepted.detach()))

    def _talk(self, connection: Any) -> None:
        messages = msgpack.Unpacker(strict_map_key=False, unicode_errors="replace")
        while data := connection.recv(READ_BYTES):
            messages.feed(data)
            for message in messages:
                connection.sendall(self._answer(message))


class Timed(Conversation):
    """The plugin's own, and how long each message of Kong's held the server, in seconds."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self.held: list[float] = []

    def answer(self, message: Any) -> list[Any]:
        began = time.perf_counter()
        answer = super().answer(message)
        self.held.append(time.perf_counter() - began)
        return answer


def main() -> None:
    kind, socket, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if kind == "ours":
        spool = Spool(folder / SPOOL, "bench", max_bytes=LIMIT, survives_power_loss=True)
        intake = Intake(spool, max_bytes=QUEUE_LIMIT)
    else:
        intake = cast(Intake, NoIntake())
    conversation = KongPdk(intake) if kind == "noop" else Timed(intake)
    server = (GreenletServer if kind == "noop" else Server)(intake, conversation)
    stopping = gevent.event.Event()
    gevent.signal_handler(signal.SIGTERM, stopping.set)
    server.listen(socket, 0o600)
    intake.start()
    stopping.wait()
    server.stop()
    intake.stop(60)
    if isinstance(conversation, Timed):
        held = sorted(conversation.held)
        p99 = held[len(held) * 99 // 100] * 1000
        (folder / f"{kind}.json").write_text(json.dumps({"p99_ms": p99}))


if __name__ == "__main__":
    main()
