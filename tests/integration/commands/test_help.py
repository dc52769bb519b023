"""`tallyman --help`: every command with its whole first sentence."""

import click
import pytest
from click.testing import CliRunner
from tallyman.cli import PLACES, main

COMMANDS = {name: main.get_command(click.Context(main), name) for name in PLACES}


@pytest.mark.parametrize(
    "group", [[], *([name] for name, one in COMMANDS.items() if isinstance(one, click.Group))]
)
def test_no_line_of_the_list_of_commands_is_cut(group: list[str]) -> None:
    shown = CliRunner().invoke(main, [*group, "--help"]).output

    assert "Commands:" in shown
    assert "..." not in shown.partition("Commands:")[2]
