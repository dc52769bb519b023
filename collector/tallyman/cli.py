"""The command `tallyman`: each command is a module of `commands/`."""

import click

from tallyman.commands import (
    catalogue,
    consume,
    customers,
    dead,
    demo,
    keys,
    migrate,
    replay,
    serve,
    status,
)


@click.group()
def main() -> None:
    """Count LLM tokens, and answer what was used."""


for command in (
    serve.serve,
    catalogue.apply,
    catalogue.diff,
    catalogue.dump,
    consume.consume,
    customers.customers,
    dead.dead,
    demo.demo,
    keys.keys,
    migrate.migrate,
    replay.replay,
    status.status,
):
    main.add_command(command)
