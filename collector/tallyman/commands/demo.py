"""`tallyman demo`: recorded gateway traffic through the real plugin server, up to an invoice."""

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from tallyman.demo import billing, processes, show, stripe_step, traffic
from tallyman.demo.kong_driver import KongDriver
from tallyman.errors import TallymanError

INGEST_PATH = "/api/v3/openmeter/events"


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tallyman-demo"),
    show_default=True,
    help="Where the demo's collector stores; a second run there finds every call known.",
)
def demo(data_dir: Path) -> None:
    """Play recorded gateway traffic through the real plugin server, and bill it."""
    console = Console(highlight=False)
    try:
        _play(console, data_dir)
    except TallymanError as err:
        raise click.ClickException(str(err)) from err


def _play(console: Console, data_dir: Path) -> None:
    month = traffic.month(datetime.now(UTC))
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    console.print(f"Collector: chDB and SQLite in {data_dir}/, starting …")
    key = processes.create_key(data_dir, "demo")  # before the first start, which would print one
    with processes.collector(data_dir, data_dir / "serve.log") as address:
        console.print("Plugin server: tallyman-kong with kong-pdk, on a Unix socket, starting …")
        with (
            processes.plugin_server(data_dir / "plugin.log") as socket,
            KongDriver(socket) as kong,
        ):
            instance = kong.start_instance(
                {"ingest_endpoint": address + INGEST_PATH, "api_token": key}
            )
            entries = list(traffic.entries(month))
            for entry in track(
                entries, f"Playing {month:%B %Y}, as a real Kong logged it", console=console
            ):
                kong.log(instance, entry)
        console.print(f"{len(entries)} log entries: spooled, sent, stored.\n")
        show.show(console, show.query_meters(address, key))
        billing.sell_and_bill(console, data_dir, month)
        invoice = billing.show_invoice(console, data_dir, address, key, month)
        stripe_step.show_stripe(console, data_dir, invoice["id"])
        billing.show_margin(console, data_dir, month)
        billing.explain_line(console, data_dir, invoice)
    console.print("\nThe same with curl, from a collector that stays:\n")
    console.print(show.curl_lines(data_dir, key, invoice["id"]), soft_wrap=True, markup=False)
