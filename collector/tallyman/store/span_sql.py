"""Whose usage an event is, as SQL: by its subject and its time. Pure.

Which spans those are is `customer_subjects.py`'s.
"""

from collections.abc import Sequence
from typing import Any, Final

from tallyman.domain.attribution import Owner
from tallyman.domain.customer import SubjectSpan
from tallyman.domain.event import EARLIEST, LATEST
from tallyman.domain.period import microseconds

Parameters = dict[str, Any]

_MOMENT: Final = "toUnixTimestamp64Micro(time)"
_HOLDS: Final = f"(s, b, e) -> s = subject AND b <= {_MOMENT} AND {_MOMENT} < e"


def within(spans: Sequence[SubjectSpan], name: str, parameters: Parameters) -> str:
    """Whether the subject and the time of an event are in one of the spans, as SQL."""
    whole = [span for span in spans if _is_whole(span)]
    parts = [span for span in spans if not _is_whole(span)]
    parameters[name] = [span.subject for span in whole]
    simple = f"subject IN {{{name}:Array(String)}}"
    if not parts:
        return simple
    _put(parameters, name, parts)
    return (
        f"({simple} OR (subject IN {{{name}s:Array(String)}} AND "
        f"arrayExists({_HOLDS}, {_lists(name)})))"
    )


def owner(owners: Sequence[Owner], name: str, parameters: Parameters) -> str:
    """The id of the customer whose usage an event is, as SQL; empty where it is nobody's."""
    whole = [(id_, span) for id_, span in owners if _is_whole(span)]
    parts = [(id_, span) for id_, span in owners if not _is_whole(span)]
    parameters[f"{name}w"] = [span.subject for _, span in whole]
    parameters[f"{name}i"] = [id_ for id_, _ in whole]
    simple = f"transform(subject, {{{name}w:Array(String)}}, {{{name}i:Array(String)}}, '')"
    if not parts:
        return simple
    _put(parameters, name, [span for _, span in parts])
    parameters[f"{name}p"] = [id_ for id_, _ in parts]
    place = f"arrayFirstIndex({_HOLDS}, {_lists(name)})"
    return f"if(subject IN {{{name}s:Array(String)}}, {{{name}p:Array(String)}}[{place}], {simple})"


def _is_whole(span: SubjectSpan) -> bool:
    return span.from_ is None and span.to is None


def _lists(name: str) -> str:
    return f"{{{name}s:Array(String)}}, {{{name}b:Array(Int64)}}, {{{name}e:Array(Int64)}}"


def _put(parameters: Parameters, name: str, parts: Sequence[SubjectSpan]) -> None:
    parameters[f"{name}s"] = [span.subject for span in parts]
    parameters[f"{name}b"] = [microseconds(span.from_ or EARLIEST) for span in parts]
    parameters[f"{name}e"] = [
        microseconds(LATEST) + 1 if span.to is None else microseconds(span.to) for span in parts
    ]
