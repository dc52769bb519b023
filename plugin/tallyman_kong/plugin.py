"""The plugin: one instance a configuration, whose log phase hands the entry over, and nothing else.

No exception may leave it: Kong would count it as the request's.
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

    def log(self, entry: Any) -> None:
        """Take what Kong answered to `kong.log.serialize()`."""
        try:
            if self._reader is None:
                self.intake.refuse("configuration")
            else:
                self.intake.offer(entry, self._reader)
        except Exception as err:  # noqa: BLE001 - the plugin's border
            self.intake.refuse("error")
            log.warning("an entry could not be taken: %s", type(err).__name__)

    def log_nothing(self) -> None:
        """Count a call whose entry Kong could not give."""
        self.intake.refuse("no_entry")
        log.warning("Kong gave no log entry")


def plugin_class(intake: Intake) -> type[Plugin]:
    """The class for kong-pdk, which makes instances from their configuration alone."""
    return type("Plugin", (Plugin,), {"intake": intake})
