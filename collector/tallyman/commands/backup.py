"""`tallyman backup` and `restore`: the embedded directory, away and back."""

from pathlib import Path
from typing import Final

import click

from tallyman.backup.backup import back_up
from tallyman.backup.manifest import Manifest
from tallyman.backup.restore import restore as put_back
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.errors import ConfigurationError

MEGABYTE: Final = 1_000_000
SERVERS: Final = (
    "this is for what is embedded in data_dir; of Postgres take pg_dump, and of ClickHouse its "
    "BACKUP, in this order: see docs/operations.md"
)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@with_settings
def backup(settings: Settings, target: Path) -> None:
    """Write a backup to TARGET, a new folder or a file that ends in .tar; also while it runs."""
    _refuse_servers(settings)
    manifest = back_up(settings.data_dir, target)
    click.echo(f"{target}: {_counted(manifest)}, checked with its manifest on restoring.")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Give up what is stored in data_dir now.")
@with_settings
def restore(settings: Settings, source: Path, replace: bool) -> None:
    """Fill data_dir from the backup at SOURCE; no server may run on it."""
    _refuse_servers(settings)
    manifest = put_back(settings.data_dir, source, replace=replace)
    click.echo(
        f"{settings.data_dir} is as it was at {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC: "
        f"{_counted(manifest)}."
    )
    click.echo("What came after that can be sent again: whatever is there already is dropped.")


def _refuse_servers(settings: Settings) -> None:
    if settings.database_url is not None or settings.clickhouse_url is not None:
        raise ConfigurationError(SERVERS)


def _counted(manifest: Manifest) -> str:
    return f"{len(manifest.files):,} files, {manifest.size / MEGABYTE:,.1f} MB"
