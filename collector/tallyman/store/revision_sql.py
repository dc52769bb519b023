"""Renders which of an event's rows counts: the newest, if it is not voided. Pure.

An event that is changed has a row for each revision, from 0, as it came. None is ever removed, so what
was known at a watermark stays known: a revision that was stored later replaces nothing before that.

Changes are looked for in the whole namespace, whatever a query asks for: an id that is stored twice, at two times
or of two subjects, has a change at one of them, which counts for both.

Where no change is stored nothing is looked for: `changed_namespaces` has each namespace that has one. It is written
by the insert of the change, beside it, and each start adds what it lacks. So of a namespace that is not in it a query
takes the events as they came: all changes are left out that are stored while it is asked, and no event counts twice.
"""

from typing import Final

# How an event came; a change of it is none of its deliveries.
AS_IT_CAME: Final = "revision = 0"
# GLOBAL: on a cluster the table within is read once, not by each shard of each shard.
_REPLACED: Final = (
    "({key}, revision) GLOBAL NOT IN (SELECT {key}, arrayJoin(range(revision)) FROM events "
    "WHERE revision > 0{where})"
)


IS_CHANGED: Final = "SELECT 1 FROM changed_namespaces WHERE namespace = {namespace:String} LIMIT 1"
# What `changed_namespaces` lacks: from before it was there, or where it was restored older than the events.
REMEMBER_CHANGED: Final = (
    "INSERT INTO changed_namespaces SELECT DISTINCT namespace FROM events WHERE revision > 0 "
    "AND namespace GLOBAL NOT IN (SELECT namespace FROM changed_namespaces)"
)


def of_type_between(at: object = "") -> tuple[str, ...]:
    """The conditions of an event's type and time: of `{type:String}`, from `{from:Int64}` on, before `{to:Int64}`.

    The times are microseconds; `at` is behind the name of each parameter.
    """
    return (
        f"type = {{type{at}:String}}",
        f"time >= fromUnixTimestamp64Micro({{from{at}:Int64}}, 'UTC')",
        f"time < fromUnixTimestamp64Micro({{to{at}:Int64}}, 'UTC')",
    )


def counting(watermark: str | None = None) -> str:
    """The condition of the rows of `{namespace:String}` that count.

    `watermark` is the SQL of the time up to which revisions are known.
    """
    return f"change IN ('', 'amended') AND {newest(watermark)}"


def newest(watermark: str | None = None) -> str:
    """The condition of each event's newest revision; one of a voided event is among them."""
    stored = "" if watermark is None else f" AND stored_at <= {watermark}"
    where = f" AND namespace = {{namespace:String}}{stored}"
    return _REPLACED.format(key="source, id", where=where)


def counting_everywhere() -> str:
    """The condition of the rows that count, of every namespace."""
    newest_of_all = _REPLACED.format(key="namespace, source, id", where="")
    return f"change IN ('', 'amended') AND {newest_of_all}"
