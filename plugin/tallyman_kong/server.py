"""The plugin server's process: a Unix socket for Kong, served by gevent, and the intake's thread.

It only takes entries in. It never sends, and it does not look after itself: `supervisor.py` does.
"""

import json
import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import msgpack
from gevent.server import StreamServer
from gevent.socket import AF_UNIX, SOCK_STREAM
from gevent.socket import socket as GeventSocket

from tallyman_kong.connection import LARGEST_MESSAGE, Connection
from tallyman_kong.conversation import Conversation
from tallyman_kong.intake import Intake
from tallyman_kong.logs import configure
from tallyman_kong.sequence_mark import SequenceMark
from tallyman_kong.settings import Settings, host_name
from tallyman_kong.sink import Sink, to_message
from tallyman_kong.spool import Spool
from tallyman_kong.spool_file import replace_file

log = logging.getLogger("tallyman_kong.server")

BACKLOG = 4096
HANDLERS_SECONDS = 1.0  # how long a stop waits for entries that Kong is about to hand over


class Server:
    """The listener for Kong, and its connections.

    kong-pdk's listener is not used because it closes the connection on a header that is not UTF-8
    (any client can send one, and its call would go uncounted), formats each entry into a debug
    line, may send half an answer, and ends when its parent is pid 1, as in a container.
    """

    def __init__(self, intake: Intake, conversation: Conversation) -> None:
        self._intake = intake
        self._conversation = conversation
        self._pack = msgpack.Packer(unicode_errors="replace").pack
        self._server: StreamServer | None = None
        self._connections: set[Connection] = set()

    def listen(self, path: Path, mode: int) -> None:
        """Take over the socket at `path`: there is never a moment without one."""
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        listener = GeventSocket(AF_UNIX, SOCK_STREAM)
        listener.bind(str(partial))
        partial.chmod(mode)
        listener.listen(BACKLOG)
        os.replace(partial, path)
        self._inode = path.stat().st_ino
        self._path = path
        self._server = StreamServer(listener, self._take, spawn=None)  # no greenlet for any
        self._server.start()

    def dump(self) -> str:
        """What Kong's query command prints: the plugin's name, phases and schema."""
        return json.dumps([self._conversation.plugin_info()])

    def stop(self) -> None:
        """Take no new connection, give Kong a moment to hand over what it has begun, hang up.

        A Kong that is hung up on goes to the server that has the socket now, if there is one.
        """
        if self._server is None:
            return
        try:
            if self._path.stat().st_ino == self._inode:  # else a newer server has it
                self._path.unlink()
        except FileNotFoundError:
            pass
        self._server.close()
        with gevent.Timeout(HANDLERS_SECONDS, False):
            while self._conversation.has_begun():
                gevent.sleep(0.01)
        for connection in list(self._connections):
            connection.close()

    def _take(self, accepted: Any, _address: Any) -> None:
        raw = socket.socket(fileno=accepted.detach())
        self._connections.add(Connection(raw, self._answer, self._ended, self._intake.is_behind))

    def _answer(self, message: Any) -> bytes:
        answer: bytes = self._pack(self._conversation.answer(message))
        return answer

    def _ended(self, connection: Connection, err: Exception | None) -> None:
        self._connections.discard(connection)
        if isinstance(err, msgpack.BufferFull):
            self._intake.refuse("too_large")
            log.error("a log entry above %d MiB was refused", LARGEST_MESSAGE // 2**20)
        elif err is not None and not isinstance(err, OSError):  # that is Kong, gone away
            log.warning("a connection was closed: no message of Kong's (%s)", type(err).__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM, or until the supervisor is gone (stdin ends).

    Sinks are told to the supervisor as JSON lines on what was stdout.
    """
    control = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # kong-pdk prints
    configure(settings.log_level, "server")
    spool = open_spool(settings)
    told: dict[str, Sink] = {}

    def announce(sink: Sink) -> None:
        if told.get(sink.name) != sink:  # each of Kong's workers starts an instance
            told[sink.name] = sink
            with suppress(OSError):  # the supervisor is gone, and so are we in a moment
                control.write(json.dumps(to_message(sink)) + "\n")

    intake = Intake(spool, max_bytes=settings.queue_max_bytes, announce=announce)
    server = Server(intake, Conversation(intake))
    stopping = gevent.event.Event()
    gevent.signal_handler(signal.SIGTERM, stopping.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor too
    settings.prefix.mkdir(parents=True, exist_ok=True)
    replace_file(settings.dump, server.dump(), mode=0o644)
    server.listen(settings.socket, settings.socket_mode)
    intake.start()  # after the socket is there: it first checks the whole spool
    threading.Thread(target=_follow_supervisor, daemon=True).start()
    log.info("serving on %s", settings.socket)
    stopping.wait()
    server.stop()
    intake.stop(settings.drain_seconds)
    spool.close()
    log.info("stopped")


def open_spool(settings: Settings) -> Spool:
    return Spool(
        settings.spool,
        settings.node_id or SequenceMark(settings.spool).first_node() or host_name(),
        max_bytes=settings.spool_max_bytes,
        survives_power_loss=True,
    )


def _follow_supervisor() -> None:
    while os.read(0, 1024):  # not sys.stdin: its lock would be held at the process's end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
