"""Answers what Kong says to a plugin server: instances by kong-pdk, the log phase by itself.

It knows no socket: `server.py` reads the messages and sends the answers.
"""

import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kong_pdk.exception import PDKException, PluginServerException
from kong_pdk.logger import Logger
from kong_pdk.module import Module
from kong_pdk.server import PluginServer

from tallyman_kong.intake import Intake
from tallyman_kong.plugin import Plugin, plugin_class
from tallyman_kong.schema import PRIORITY, SCHEMA, VERSION
from tallyman_kong.settings import PLUGIN_NAME

log = logging.getLogger("tallyman_kong.server")

PHASE = "log"
STEPS = "plugin.Step"  # Step, StepMultiMap, StepConsumer…: what Kong calls it depends on the answer
ASK = {"Method": "kong.log.serialize", "Args": []}
RETURNED = "ret"
MOST_BEGUN = 2**16  # of sixteen of Kong's workers: each has 4,096 timers for the log phase
# Kong knows this text: it starts an instance, and begins the event anew with the same entry.
UNKNOWN = "no plugin instance for"

Answer = Callable[[Any], Any]


class Conversation:
    """kong-pdk's plugin server, but for the events of the log phase.

    kong-pdk makes a greenlet, a channel and a lock's turn of each event, so that a handler may ask
    Kong anything. Ours asks one thing, always the same: it needs to wait for nobody.
    """

    def __init__(self, intake: Intake) -> None:
        self._plugins = make_plugin_server(intake)
        self._instances: dict[int, Any] = self._plugins.instances
        self._event_id: int = self._plugins.event_id
        # Kong was asked for the entry of these events. Those that it never ends, as its worker was
        # killed, would stay: so the oldest is forgotten, and begun anew should Kong end it.
        self._begun: OrderedDict[int, Plugin] = OrderedDict()
        self._answers: dict[str, Answer] = {
            "plugin.StartInstance": self._plugins.start_instance,
            "plugin.CloseInstance": self._plugins.close_instance,
            "plugin.InstanceStatus": self._plugins.instance_status,
            "plugin.GetStatus": self._plugins.get_status,
            "plugin.GetPluginInfo": self._plugins.get_plugin_info,
            "plugin.HandleEvent": self._handle_event,
            "plugin.Step": self._step,
            "plugin.StepError": self._step_error,
        }

    def answer(self, message: Any) -> list[Any]:
        """What to send back. Never waits.

        Raises:
            Exception: it is no message at all.
        """
        _, message_id, method, arguments = message
        answer = self._answers.get(method)
        if answer is None:
            if not method.startswith(STEPS):
                return [1, message_id, f"no such method: {method}", None]
            answer = self._step
        try:
            return [1, message_id, None, answer(*arguments)]
        except (PluginServerException, PDKException) as err:
            return [1, message_id, str(err), None]
        except Exception as err:  # noqa: BLE001 - the plugin's border
            log.warning("%s failed: %s", method, type(err).__name__)
            return [1, message_id, f"{method}: {type(err).__name__}", None]

    def has_begun(self) -> bool:
        """Whether there are events whose entry Kong has not given yet."""
        return bool(self._begun)

    def plugin_info(self) -> Any:
        """The plugin's name, phases and schema."""
        return self._plugins.get_plugin_info(PLUGIN_NAME)

    def _handle_event(self, event: Any) -> dict[str, Any]:
        if event["EventName"] != PHASE:
            raise PluginServerException(f"the plugin has the phase {PHASE} alone")
        instance = self._instances.get(event["InstanceId"])
        if instance is None:
            raise PluginServerException(f"{UNKNOWN} id {event['InstanceId']}")
        event_id = self._event_id
        self._event_id = event_id + 1
        self._begun[event_id] = instance.cls
        if len(self._begun) > MOST_BEGUN:
            self._begun.popitem(last=False)
        return {"Data": ASK, "EventId": event_id}

    def _step(self, step: Any) -> dict[str, Any]:
        event_id, plugin = self._end(step)
        plugin.log(step.get("Data"))
        return {"Data": RETURNED, "EventId": event_id}

    def _step_error(self, step: Any) -> dict[str, Any]:
        event_id, plugin = self._end(step)
        plugin.log_nothing()
        return {"Data": RETURNED, "EventId": event_id}

    def _end(self, step: Any) -> tuple[int, Plugin]:
        event_id = step["EventId"]
        plugin = self._begun.pop(event_id, None)
        if plugin is None:
            raise PluginServerException(f"{UNKNOWN} event id {event_id}")
        return event_id, plugin


def make_plugin_server(intake: Intake) -> Any:
    """kong-pdk's server with our plugin, which it neither listens for nor runs."""
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
