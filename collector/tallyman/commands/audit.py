"""`tallyman audit`: what was changed, by whom, and what it was before; also while the server runs."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from tallyman import connections
from tallyman.commands.bill import MOMENT
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.store.audit_pages import AuditLine, AuditPages, TimeComparison
from tallyman.store.comparison import Comparison

LONGEST: Final = 60  # characters of a value that are shown


@click.command()
@click.option("--resource", "type_", help="Only of this type, such as customer.")
@click.option("--id", "id_", help="Only of the thing with this id.")
@click.option("--actor", help="Only by whom this is a part of, such as a key's id or bill.")
@click.option("--since", type=MOMENT, help="Only from this time on (UTC).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each change, in full.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose changes.")
@with_settings
def audit(
    settings: Settings,
    type_: str | None,
    id_: str | None,
    actor: str | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
    namespace: str,
) -> None:
    """Show what was changed, the newest first."""
    where: list[Comparison | TimeComparison] = [
        Comparison(column, operator, (value,))
        for column, operator, value in (
            ("entity", "eq", type_),
            ("entity_id", "eq", id_),
            ("actor", "contains", actor),
        )
        if value is not None
    ]
    if since is not None:
        where.append(TimeComparison("gte", since))
    lines = asyncio.run(_read(settings, namespace, where, limit))
    if as_json:
        for line in lines:
            click.echo(json.dumps({**vars(line), "at": line.at.isoformat()}))
        return
    table = Table("at (UTC)", "who", "did", "what", "id", "changed", box=None)
    for line in lines:
        who = line.actor if not line.actor_name else f"{line.actor} ({line.actor_name})"
        changed = ", ".join(differences(line))
        table.add_row(
            f"{line.at:%Y-%m-%d %H:%M:%S}", who, line.action, line.entity, line.entity_id, changed
        )
    Console(width=None if Console().is_terminal else 200, markup=False).print(table)


async def _read(
    settings: Settings, namespace: str, where: list[Comparison | TimeComparison], limit: int
) -> list[AuditLine]:
    database = connections.open_database(settings)
    try:
        await database.migrate()
        return await AuditPages(database).page(namespace, where, size=limit)
    finally:
        await database.close()


def differences(line: AuditLine) -> list[str]:
    """`name: old → new` for each field that a change has changed; nothing for what was made."""
    if line.before is None or line.after is None:
        return []
    names = [name for name in {**line.before, **line.after} if name != "updated_at"]
    return [
        f"{name}: {_shown(line.before, name)} → {_shown(line.after, name)}"
        for name in names
        if line.before.get(name) != line.after.get(name)
    ]


def _shown(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
