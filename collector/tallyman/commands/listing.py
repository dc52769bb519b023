"""How commands are found, and listed by `--help`; what each does is its own module's."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

_LONGEST = 1_000  # no first sentence of a command is


class Listing(click.Group):
    """Lists each command with its whole first sentence, where click cuts it to one line.

    `places` says where further commands are, by their name: `package.module:attribute`. Such a module
    is imported when its command is asked for, so that none waits for what the others need.
    """

    def __init__(self, *args: Any, places: Mapping[str, str] | None = None, **others: Any) -> None:
        super().__init__(*args, **others)
        self._places = places or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the order of the alphabet."""
        return sorted({*self.commands, *self._places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, if there is one."""
        if cmd_name not in self._places:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._places[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        listed = [
            (name, command.get_short_help_str(_LONGEST))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None
        ]
        with formatter.section("Commands"):
            formatter.write_dl(listed)
