"""The command `tallyman`: each command is a module of `commands/`."""

import click

from tallyman.commands import (
    audit,
    backtest,
    backup,
    bill,
    catalogue,
    consume,
    credit_note,
    customers,
    dead,
    demo,
    explain,
    keys,
    margin,
    migrate,
    preview,
    prices,
    reconcile,
    replay,
    rerate,
    serve,
    statement,
    status,
)
from tallyman.commands.listing import Listing


@click.group(cls=Listing)
def main() -> None:
    """Count LLM tokens, and answer what was used."""


for command in (
    serve.serve,
    catalogue.apply,
    catalogue.diff,
    catalogue.dump,
    audit.audit,
    backtest.backtest_command,
    backup.backup,
    backup.restore,
    bill.bill,
    consume.consume,
    credit_note.credit_note,
    customers.customers,
    dead.dead,
    demo.demo,
    explain.explain,
    keys.keys,
    margin.margin,
    migrate.migrate,
    preview.preview,
    prices.prices,
    reconcile.reconcile,
    replay.replay,
    rerate.rerate,
    statement.statement,
    statement.check_statement,
    status.status,
):
    main.add_command(command)
