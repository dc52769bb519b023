"""The plugin server's process: kong-pdk in gevent mode on a Unix socket, and the intake's thread.

It only takes entries in. It never sends, and it does not look after itself: `supervisor.py` does.
"""

import json
import logging
import os
import random
import signal
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
from kong_pdk.exception import PDKException, PluginServerException
from kong_pdk.logger import Logger
from kong_pdk.module import Module
from kong_pdk.server import PluginServer

from tallyman_kong.intake import Intake
from tallyman_kong.logs import configure
from tallyman_kong.plugin import plugin_class
from tallyman_kong.schema import PRIORITY, SCHEMA, VERSION
from tallyman_kong.settings import PLUGIN_NAME, Settings, host_name
from tallyman_kong.sink import Sink, to_message
from tallyman_kong.spool import Spool
from tallyman_kong.spool_file import SequenceMark, replace_file

log = logging.getLogger("tallyman_kong.server")

BACKLOG = 4096
LARGEST_MESSAGE = 64 * 1024 * 1024
HANDLERS_SECONDS = 1.0  # how long a stop waits for entries that Kong is about to hand over
METHODS = {
    "plugin.StartInstance": "start_instance",
    "plugin.CloseInstance": "close_instance",
    "plugin.InstanceStatus": "instance_status",
    "plugin.GetStatus": "get_status",
    "plugin.GetPluginInfo": "get_plugin_info",
    "plugin.HandleEvent": "handle_event",
    "plugin.StepError": "step_error",
}
PHASE = "log"
STEPS = "plugin.Step"  # Step, StepMultiMap, StepConsumer…: kong-pdk takes them all alike


class Server:
    """kong-pdk's plugin server behind our own listener.

    kong-pdk's listener is not used because it closes the connection on a header that is not UTF-8
    (any client can send one, and its call would go uncounted), formats each entry into a debug
    line, may send half an answer, and ends when its parent is pid 1, as in a container.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._plugins = make_plugin_server(intake)
        self._server: StreamServer | None = None
        self._connections: set[Any] = set()

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
        self._server = StreamServer(listener, self._handle)
        self._server.start()

    def dump(self) -> str:
        """What Kong's query command prints: the plugin's name, phases and schema."""
        return json.dumps([self._plugins.get_plugin_info(PLUGIN_NAME)])

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
            while self._plugins.events:
                gevent.sleep(0.01)
        for connection in list(self._connections):
            connection.close()

    def _handle(self, connection: Any, _address: Any) -> None:
        messages = msgpack.Unpacker(
            _Reads(connection),
            strict_map_key=False,
            unicode_errors="replace",
            max_buffer_size=LARGEST_MESSAGE,
        )
        self._connections.add(connection)
        try:
            for message in messages:
                connection.sendall(msgpack.packb(self._answer(message), unicode_errors="replace"))
        except OSError:
            pass  # Kong went away
        except msgpack.BufferFull:
            self._intake.refuse("too_large")
            log.error("a log entry above %d MiB was refused", LARGEST_MESSAGE // 2**20)
        except Exception as err:  # noqa: BLE001 - one connection's garbage is not another's
            log.warning("a connection was closed: no message of Kong's (%s)", type(err).__name__)
        finally:
            self._connections.discard(connection)
            connection.close()

    def _answer(self, message: Any) -> list[Any]:
        _, message_id, method, arguments = message
        name = "step" if method.startswith(STEPS) and method not in METHODS else METHODS.get(method)
        if name is None:
            return [1, message_id, f"no such method: {method}", None]
        try:
            if name == "handle_event" and arguments[0]["EventName"] != PHASE:
                # kong-pdk would wait, for ever and for all, for what is no handler to answer.
                return [1, message_id, f"the plugin has the phase {PHASE} alone", None]
            return [1, message_id, None, getattr(self._plugins, name)(*arguments)]
        except (PluginServerException, PDKException) as err:
            return [1, message_id, str(err), None]
        except Exception as err:  # noqa: BLE001 - the plugin's border
            log.warning("%s failed: %s", name, type(err).__name__)
            return [1, message_id, f"{name}: {type(err).__name__}", None]


class _Reads:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def read(self, size: int) -> bytes:
        data: bytes = self._connection.recv(size)
        return data


def make_plugin_server(intake: Intake) -> Any:
    server = PluginServer(
        loglevel=Logger.WARNING, use_gevent=True, name=PLUGIN_NAME, lua_style=False
    )

    class Definition:
        Plugin = plugin_class(intake)
        Schema = SCHEMA
        version = VERSION
        priority = PRIORITY

    server.plugins[PLUGIN_NAME] = Module(PLUGIN_NAME, module=Definition)
    # Kong keeps instance ids of a server that is gone: the next one's must not mean another
    # configuration. Unknown ones it starts anew.
    server.instance_id = random.randrange(2**20) * 1024  # noqa: S311
    server.event_id = random.randrange(2**20) * 1024  # noqa: S311
    return server


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
    server = Server(intake)
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
    mark = SequenceMark(settings.spool.with_name(settings.spool.name + ".sequence"))
    return Spool(
        settings.spool,
        settings.node_id or mark.first_node() or host_name(),
        max_bytes=settings.spool_max_bytes,
        survives_power_loss=True,
    )


def _follow_supervisor() -> None:
    while os.read(0, 1024):  # not sys.stdin: its lock would be held at the process's end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
