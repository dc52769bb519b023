"""The command `tallyman-kong return`: has events that were set aside sent again.

For when the sink was wrong to refuse them. It sends nothing itself.
"""

import sys

from tallyman_kong.settings import Settings
from tallyman_kong.spool import Spool


def run(settings: Settings) -> None:
    spool = Spool(settings.spool)
    returned = spool.return_set_aside()
    spool.close()
    sys.stdout.write(f"{returned} events are sent again\n")
