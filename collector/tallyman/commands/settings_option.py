"""What every command shares: its settings, and that an expected error is one sentence."""

import functools
import os
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Concatenate, ParamSpec

import click

from tallyman.config import Settings, load
from tallyman.errors import ConfigurationError, TallymanError
from tallyman.store.audit import name_command

Parameters = ParamSpec("Parameters")
WRONG_CONFIGURATION = 2
FAILED = 1


def with_settings(
    command: Callable[Concatenate[Settings, Parameters], None],
) -> Callable[Parameters, None]:
    """Give a command its settings as the first argument, and the option --config.

    An error that was raised on purpose ends the command with its sentence: status 2 where a
    setting is wrong, else 1.
    """

    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A YAML file of settings; the environment wins over it.",
    )
    @functools.wraps(command)
    def run(config_file: Path | None, *args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        name = click.get_current_context().command_path.partition(" ")[2] or "tallyman"
        context = copy_context()  # so that it goes when the command does
        context.run(name_command, name)
        try:
            context.run(command, load(config_file, os.environ), *args, **kwargs)
        except TallymanError as err:
            wrong = isinstance(err, ConfigurationError)
            click.echo(f"tallyman: {err}", err=True)
            raise SystemExit(WRONG_CONFIGURATION if wrong else FAILED) from None

    return run  # type: ignore[return-value]  # click passes config_file by keyword
