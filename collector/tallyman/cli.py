"""The command `tallyman`: each command is in a module of `commands/`."""

from typing import Final

import click

from tallyman.commands.listing import Listing

PLACES: Final = {
    "apply": "tallyman.commands.catalogue:apply",
    "audit": "tallyman.commands.audit:audit",
    "backtest": "tallyman.commands.backtest:backtest_command",
    "backup": "tallyman.commands.backup:backup",
    "bill": "tallyman.commands.bill:bill",
    "check-statement": "tallyman.commands.statement:check_statement",
    "consume": "tallyman.commands.consume:consume",
    "credit-note": "tallyman.commands.credit_note:credit_note",
    "customers": "tallyman.commands.customers:customers",
    "dead": "tallyman.commands.dead:dead",
    "demo": "tallyman.commands.demo:demo",
    "diff": "tallyman.commands.catalogue:diff",
    "dump": "tallyman.commands.catalogue:dump",
    "explain": "tallyman.commands.explain:explain",
    "keys": "tallyman.commands.keys:keys",
    "margin": "tallyman.commands.margin:margin",
    "migrate": "tallyman.commands.migrate:migrate",
    "preview": "tallyman.commands.preview:preview",
    "prices": "tallyman.commands.prices:prices",
    "reconcile": "tallyman.commands.reconcile:reconcile",
    "replay": "tallyman.commands.replay:replay",
    "rerate": "tallyman.commands.rerate:rerate",
    "restore": "tallyman.commands.backup:restore",
    "serve": "tallyman.commands.serve:serve",
    "statement": "tallyman.commands.statement:statement",
    "status": "tallyman.commands.status:status",
}


@click.group(cls=Listing, places=PLACES)
def main() -> None:
    """Count LLM tokens, and answer what was used."""
