"""The command line: what is found by which name, and what that takes."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import click
from tallyman import commands
from tallyman.cli import PLACES, main


def test_each_command_is_found_by_its_own_name() -> None:
    found = {name: main.get_command(click.Context(main), name) for name in PLACES}

    assert {name: one and one.name for name, one in found.items()} == {
        name: name for name in PLACES
    }


def test_each_command_that_is_written_is_found() -> None:
    modules = [f"{commands.__name__}.{one.name}" for one in pkgutil.iter_modules(commands.__path__)]
    written = {
        f"{module}:{name}": value
        for module in modules
        for name, value in vars(import_module(module)).items()
        if isinstance(value, click.Command) and value.callback is not None
        if value.callback.__module__ == module
    }
    groups = [one for one in written.values() if isinstance(one, click.Group)]
    inner = [id(command) for group in groups for command in group.commands.values()]

    assert {place for place, one in written.items() if id(one) not in inner} == {*PLACES.values()}


def test_a_command_does_not_import_what_the_others_need() -> None:
    code = (
        "import sys; from tallyman.cli import main; main(['keys', '--help'], standalone_mode=False); "
        "print(sorted({'tallyman.app', 'tallyman.commands.consume', 'tallyman.demo'} & set(sys.modules)))"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.splitlines()[-1] == "[]"
