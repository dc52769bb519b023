"""A reconciliation as a person reads it; what was found is `stream/reconcile.py`'s."""

import click
from rich.console import Console
from rich.table import Table

from tallyman.domain.completeness import GapKind
from tallyman.stream.reconcile_report import GapReport, Report, RollupHourReport, missing_in

WIDTH = 200  # where the output is no terminal
MOST_HOURS = 48
MEANINGS = {
    GapKind.LATE: "still on its way",
    GapKind.SET_ASIDE: "set aside in the node's spool",
    GapKind.LOST: "missing",
}


def show(report: Report) -> None:
    """Print the tables, and a last line that says whether anything is missing."""
    console = Console(width=None if Console().is_terminal else WIDTH, markup=False, highlight=False)
    console.print(_totals(report))
    if report.nodes:
        console.print(_nodes(report))
    if report.gaps:
        console.print(_gaps(report.gaps, _is_of_many(report)))
    if report.rollup:
        console.print(_rollup(report.rollup))
    console.print(_hours(report))
    click.echo(_verdict(report))


def _totals(report: Report) -> Table:
    table = Table(
        "", "", show_header=False, box=None, title="What is missing", title_justify="left"
    )
    rows = [
        ("came in since", f"{report.since:%Y-%m-%d %H:%M} UTC"),
        ("lost between a node and the store", f"{report.lost:,}"),
        ("accepted, and not accounted for", f"{report.missing:,}"),
        ("calls that a node refused", f"{report.refused:,}"),
        ("remembered though not stored (put right)", f"{report.forgotten:,}"),
        ("hours of the rollup that differed (put right)", f"{report.differing:,}"),
        ("still on their way", f"{report.late:,} numbered, {report.waiting:,} messages in Kafka"),
        ("set aside by nodes", f"{report.set_aside:,}"),
        ("dead letters", f"{report.dead:,}"),
        (
            "usage without customer",
            f"{report.unattributed_events:,} events of {report.unattributed_subjects:,} subjects",
        ),
    ]
    if report.log is not None:
        rows.append(
            (
                "in Kong's log, and not stored",
                f"{report.log.uncounted:,} of {report.log.events:,} events"
                + (f"; {report.log.bad:,} lines are bad" if report.log.bad else ""),
            )
        )
    for name, value in rows:
        table.add_row(name, value)
    return table


def _nodes(report: Report) -> Table:
    table = Table("node", "numbered", "lost", "late", "refused", "waiting", "last heard", box=None)
    is_of_many = _is_of_many(report)
    for node in report.nodes:
        heard = f"{node.heartbeat_at:%Y-%m-%d %H:%M:%S}" if node.heartbeat_at else "never"
        heard += " (silent)" if node.silent else ""
        waiting = "?" if node.waiting is None else f"{node.waiting:,}"
        numbers = (f"{one:,}" for one in (node.last, node.lost, node.late, node.refused))
        table.add_row(_named(node.namespace, node.node, is_of_many), *numbers, waiting, heard)
    return table


def _is_of_many(report: Report) -> bool:
    return len({node.namespace for node in report.nodes}) > 1


def _named(namespace: str, lane: str, is_of_many: bool) -> str:
    """A node's name, with whose it is where there are nodes of several namespaces."""
    return f"{lane} of {namespace}" if is_of_many and namespace else lane


def _gaps(gaps: list[GapReport], is_of_many: bool) -> Table:
    table = Table("missing in", "from", "to", "count", "after", "", box=None)
    for gap in gaps:
        count = gap.last - gap.first + 1
        after = f"{gap.after:%Y-%m-%d %H:%M:%S}"
        at_most = "at most " if gap.at_most else ""
        numbers = (str(gap.first), str(gap.last), f"{at_most}{count:,}")
        table.add_row(
            _named(gap.namespace, gap.lane, is_of_many), *numbers, after, MEANINGS[gap.kind]
        )
    return table


def _rollup(hours: list[RollupHourReport]) -> Table:
    table = Table("hour of the rollup", "namespace", "events of type", box=None)
    for one in hours:
        table.add_row(f"{one.hour:%Y-%m-%d %H:%M}", one.namespace, one.type)
    return table


def _hours(report: Report) -> Table:
    table = Table("hour", "accepted", "counted", "known", "conflicts", "dead", "missing", box=None)
    for hour in report.hours[-MOST_HOURS:]:
        numbers = (
            hour.accepted, hour.counted, hour.known, hour.conflicts, hour.dead, hour.missing,
        )  # fmt: skip
        table.add_row(f"{hour.hour:%Y-%m-%d %H:%M}", *(f"{number:,}" for number in numbers))
    return table


def _verdict(report: Report) -> str:
    log = report.log
    if log is not None and log.uncounted:
        calls = ", ".join(log.calls[:3])
        more = ", …" if log.uncounted > len(log.calls[:3]) else ""
        return f"Not counted: {calls}{more}. Make it good: tallyman replay {' '.join(log.files)}"
    if missing_in(report):
        return (
            f"{missing_in(report):,} missing. Make it good with the log of the gateway: "
            "tallyman replay FILE…, then tallyman reconcile --node NODE FILE…"
        )
    if log is not None and log.bad:
        lines = "1 line" if log.bad == 1 else f"{log.bad:,} lines"
        return f"{lines} of the log cannot be read, so it does not show what was called there. Else nothing is missing."
    aside = report.set_aside + report.dead
    waits = f" {aside:,} are set aside or dead letters, and not counted." if aside else ""
    wrong = f" {report.differing:,} hours of the rollup were wrong, and are right now."
    return f"Nothing is missing.{waits}{wrong if report.differing else ''}"
