"""Renders which of an event's rows counts: the newest, if it is not voided. Pure.

An event that is changed has a row for each revision, from 0, as it came. None is ever removed, so what
was known at a watermark stays known: a revision that was stored later replaces nothing before that.

A change leaves an event's type and time as they are, and a row where the event was if it changes the subject
(`domain/event_change.py`). So a row and the one that replaces it are alike in type, subject and time, and a
query that asks for few of those need look for changes only there.
"""

from collections.abc import Iterable
from typing import Final

# How an event came; a change of it is none of its deliveries.
AS_IT_CAME: Final = "revision = 0"
# GLOBAL: on a cluster the table within is read once, not by each shard of each shard.
_REPLACED: Final = (
    "({key}, revision) GLOBAL NOT IN (SELECT {key}, arrayJoin(range(revision)) FROM events "
    "WHERE revision > 0{where})"
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


def counting(alike: Iterable[str] = (), watermark: str | None = None) -> str:
    """The condition of the rows of `{namespace:String}` that count.

    `alike` are those of the query's other conditions that are about type, subject and time alone, and
    `watermark` is the SQL of the time up to which revisions are known.
    """
    return f"change IN ('', 'amended') AND {newest(alike, watermark)}"


def newest(alike: Iterable[str] = (), watermark: str | None = None) -> str:
    """The condition of each event's newest revision; one of a voided event is among them."""
    where = ["", "namespace = {namespace:String}", *alike]
    if watermark is not None:
        where.append(f"stored_at <= {watermark}")
    return _REPLACED.format(key="source, id", where=" AND ".join(where))


def counting_everywhere() -> str:
    """The condition of the rows that count, of every namespace."""
    newest_of_all = _REPLACED.format(key="namespace, source, id", where="")
    return f"change IN ('', 'amended') AND {newest_of_all}"
