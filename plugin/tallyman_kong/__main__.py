"""The command `tallyman-kong`, also `python -m tallyman_kong`."""

import importlib
import sys
from collections.abc import Sequence

from tallyman_kong.settings import SettingError, parser, settings
from tallyman_kong.spool_file import SpoolError

# Each process imports its own half alone: gevent and asyncio stay apart.
ROLES = {"run": "supervisor", "server": "server", "sender": "sender", "return": "set_aside"}


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser()
    command_line.add_argument(
        "role",
        nargs="?",
        choices=tuple(ROLES),
        default="run",
        help="run, the default, starts the server and the sender and looks after them; "
        "return has events that were set aside sent again, also while it runs",
    )
    given = vars(command_line.parse_args(arguments))
    role = given.pop("role")
    try:
        read = settings(given)
    except SettingError as err:
        command_line.error(str(err))
    try:
        importlib.import_module(f"tallyman_kong.{ROLES[role]}").run(read)
    except (SpoolError, OSError) as err:
        sys.exit(f"tallyman-kong: {err}")


if __name__ == "__main__":
    main()
