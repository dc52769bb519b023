"""Speaks Kong's plugin-server protocol, so that recorded gateway traffic can be played into it.

It is Kong's half of the conversation: msgpack over a Unix stream socket, as recorded in
`tests/golden/rpc/`. It knows nothing of the plugin on the other side, nor of what it counts.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgpack

RETURNED = "ret"


class PluginServerError(Exception):
    """The plugin server answered with an error."""


class KongDriver:
    """One of Kong's connections to a plugin server. Its calls block; use it from one thread."""

    def __init__(self, path: Path, plugin: str = "tallyman", timeout_seconds: float = 30.0) -> None:
        self._plugin = plugin
        self._message_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        self._socket.connect(str(path))
        self._reads = self._socket.makefile("rb", buffering=0)
        self._answers: Iterator[Any] = msgpack.Unpacker(self._reads, strict_map_key=False)

    def start_instance(self, config: Mapping[str, Any]) -> int:
        """Start an instance of the plugin with a configuration, and give its id."""
        given = {"Name": self._plugin, "Config": json.dumps(config)}
        return int(self.call("plugin.StartInstance", given)["Id"])

    def close_instance(self, instance: int) -> None:
        self.call("plugin.CloseInstance", instance)

    def log(self, instance: int, entry: Any) -> None:
        """Run the log phase for one request; `entry` is what `kong.log.serialize()` answers.

        Kong answers with JSON text; a mapping is written as such, anything else goes as it is.
        """
        self.step(self.handle_event(instance), entry)

    def handle_event(self, instance: int, phase: str = "log") -> int:
        """Begin a phase, up to its first PDK call, and give the event's id.

        Raises:
            PluginServerError: the plugin asked for something else than the log entry.
        """
        event = {"InstanceId": instance, "EventName": phase}
        begun = self.call("plugin.HandleEvent", event)
        asked = begun["Data"]
        if not isinstance(asked, dict) or asked.get("Method") != "kong.log.serialize":
            raise PluginServerError(f"asked for {asked!r}, not for the log entry")
        return int(begun["EventId"])

    def step(self, event: int, entry: Any) -> None:
        """Answer the plugin's PDK call, after which it must have returned."""
        data = json.dumps(entry) if isinstance(entry, Mapping) else entry
        answer = {"EventId": event} if data is None else {"EventId": event, "Data": data}
        ended = self.call("plugin.Step", answer)
        if ended["Data"] != RETURNED:
            raise PluginServerError(f"asked for {ended['Data']!r} after the log entry")

    def call(self, method: str, argument: Any) -> Any:
        """One request and its answer.

        Raises:
            PluginServerError: the answer is an error.
            ConnectionError: the server closed the connection.
        """
        self._message_id += 1
        self._socket.sendall(
            # Lua's strings are bytes: lone surrogates stand for those that are no UTF-8.
            msgpack.packb(
                [0, self._message_id, method, [argument]], unicode_errors="surrogateescape"
            )
        )
        _, message_id, error, result = self.receive()
        if message_id != self._message_id:
            raise PluginServerError(f"answered {message_id}, not {self._message_id}")
        if error is not None:
            raise PluginServerError(error)
        return result

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._socket.sendall(data)

    def receive(self) -> Any:
        """The next answer as it is.

        Raises:
            ConnectionError: the server closed the connection.
        """
        answer = next(self._answers, None)
        if answer is None:
            raise ConnectionError("the plugin server closed the connection")
        return answer

    def close(self) -> None:
        self._reads.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
