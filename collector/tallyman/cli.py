"""The command `tallyman`."""

import click
from aiohttp import web

from tallyman import app
from tallyman.config import Settings


@click.group()
def main() -> None:
    """Count LLM tokens, and answer what was used."""


@main.command()
def serve() -> None:
    """Take events and answer queries over HTTP."""
    settings = Settings()
    web.run_app(app.build(settings), host=settings.host, port=settings.port)
