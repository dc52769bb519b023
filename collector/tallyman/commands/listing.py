"""How commands are listed by `--help`; what each does is its own module's."""

import click

_LONGEST = 1_000  # no first sentence of a command is


class Listing(click.Group):
    """Lists each command with its whole first sentence, where click cuts it to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        listed = [
            (name, command.get_short_help_str(_LONGEST))
            for name, command in sorted(self.commands.items())
        ]
        with formatter.section("Commands"):
            formatter.write_dl(listed)
