"""The plugin as kong-pdk runs it: a log phase that hands the entry over, and nothing else.

No exception may leave a handler, and the first thing it does is its only PDK call: kong-pdk
handles one event at a time until each handler's first call, and an exception before it would wedge
the server for ever.
"""

import logging
from typing import Any

from tallyman_kong import usage
from tallyman_kong.intake import Intake, Reader, reader
from tallyman_kong.sink import read_sink

log = logging.getLogger("tallyman_kong.plugin")


class Plugin:
    """One instance of the plugin: one configuration, of one Kong worker.

    A configuration that cannot be used gives an instance that refuses, counted, everything: an
    error here would have Kong try again with every request.
    """

    intake: Intake

    def __init__(self, config: Any) -> None:
        self._reader: Reader | None = None
        try:
            given = config if isinstance(config, dict) else {}
            self._reader = reader(usage.configuration(given), read_sink(given))
            self.intake.add_sink(self._reader.sink)
        except ValueError as err:
            log.error("the plugin's configuration cannot be used, its calls are refused: %s", err)
        except Exception as err:  # noqa: BLE001 - the plugin's border
            log.error("the plugin's configuration cannot be used: %s", type(err).__name__)

    def log(self, kong: Any) -> None:
        try:
            entry = kong.log.serialize()
            if self._reader is None:
                self.intake.refuse("configuration")
            else:
                self.intake.offer(entry, self._reader)
        except Exception as err:  # noqa: BLE001 - the plugin's border
            self.intake.refuse("no_entry")
            log.warning("Kong gave no log entry: %s", type(err).__name__)


def plugin_class(intake: Intake) -> type[Plugin]:
    """The class for kong-pdk, which makes instances from their configuration alone."""
    return type("Plugin", (Plugin,), {"intake": intake})
