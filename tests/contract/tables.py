"""Owns how the contract's cases are written down: Markdown tables, YAML changes of a golden entry.

It knows no rule: what is judged is written in the files, the rest of an event is copied.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
TYPES = ("request", "response", "cache_read", "cache_write")
PLAIN = (
    *("provider", "model", "request_model", "consumer_id", "credential_id"),
    *("service", "route", "workspace", "status_code", "stream", "outcome"),
    *("latency_ms", "llm_latency_ms"),
)

Entry = dict[str, Any]
Judged = dict[str, Any]
Event = dict[str, Any]


@dataclass(frozen=True)
class Case:
    name: str
    entry: Entry
    configuration: Mapping[str, Any]
    events: tuple[Event, ...]
    invalid_counts: int = 0
    bad: bool = False


@cache
def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def golden_entry(name: str) -> Entry:
    return copy.deepcopy(_read_json(GOLDEN / "kong-3.9.3" / f"{name}.json")["serialized_log"])


def recording(name: str) -> dict[str, Any]:
    return copy.deepcopy(_read_json(GOLDEN / "chunks" / f"{name}.json"))


@cache
def read_table(name: str) -> tuple[Judged, ...]:
    lines = [line for line in (HERE / name).read_text().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return tuple(_typed(dict(zip(head, row, strict=True))) for row in rows)


def _typed(row: dict[str, str]) -> Judged:
    return {**row, "stream": row["stream"] == "yes", "status_code": int(row["status_code"])}


def _count(words: str) -> dict[str, Any]:
    """Read `23 provider` or `waived 23 provider`."""
    *waived, number, source = words.split()
    tokens, waived_tokens = (0, int(number)) if waived else (int(number), 0)
    return {"tokens": tokens, "waived_tokens": waived_tokens, "usage_source": source}


def _copied(entry: Entry) -> Judged:
    """Say what an event of a golden entry copies from it by default."""
    consumer = entry.get("consumer")
    started_at = datetime.fromtimestamp(entry["started_at"] // 1000, UTC)
    return {
        "namespace": "proxy",
        "source": "kong",
        "request_id": entry["request"]["id"],
        "time": f"{started_at:%Y-%m-%dT%H:%M:%S}.{entry['started_at'] % 1000:03d}Z",
        "subject": consumer["username"] if consumer else "anonymous",
        "consumer_id": consumer["id"] if consumer else None,
        "credential_id": entry["authenticated_entity"]["id"] if consumer else None,
        "service": entry["service"]["name"],
        "route": entry["route"]["name"],
        "workspace": entry["workspace_name"],
        "latency_ms": entry["latencies"]["request"],
        "llm_latency_ms": entry["ai"]["proxy"]["meta"]["llm_latency"] if "ai" in entry else None,
        "task": None,
        "feature": None,
    }


def write_events(judged: Judged) -> Iterator[Event]:
    attributes = judged.get("attributes")
    if attributes is None:
        attributes = {"task": judged["task"], "feature": judged["feature"]}
    for kind in (kind for kind in TYPES if kind in judged):
        yield {
            "specversion": "1.0",
            "id": f"{judged['request_id']}:{judged['namespace']}:{kind}",
            "source": judged["source"],
            "type": "llm.tokens",
            "subject": judged["subject"],
            "time": judged["time"],
            "datacontenttype": "application/json",
            "data": {
                "type": kind,
                **_count(judged[kind]),
                **{name: judged[name] for name in PLAIN},
                **attributes,
            },
        }


def recorded_cases() -> Iterator[Case]:
    for row in read_table("golden-without-reader.md"):
        entry = golden_entry(row["case"])
        yield Case(row["case"], entry, {}, tuple(write_events(_copied(entry) | row)))


def cases_with_the_reader() -> Iterator[Case]:
    for row in read_table("golden-with-reader.md"):
        entry = golden_entry(row["case"])
        events = tuple(write_events(_copied(entry) | row))
        entry.setdefault("ai", {})["tallyman"] = recording(row["recording"])["published"]
        yield Case(f"{row['case']} with {row['recording']}", entry, {}, events)


def cases_of_every_recording() -> Iterator[Case]:
    for row in read_table("recordings.md"):
        entry = _carry(row)
        name = row["recording"]
        judged = _copied(golden_entry(row["carrier"])) | row
        del judged["cache_read"], judged["cache_write"]
        yield Case(name, entry, {}, tuple(write_events(judged)))

        source = row["request"].split()[-1]
        judged["request"] = f"{row['uncached']} {source}"
        for kind in ("cache_read", "cache_write"):
            if row[kind] != "0":
                judged[kind] = f"{row[kind]} {source}"
        split = {"split_cached_tokens": True}
        yield Case(f"{name}, split", entry, split, tuple(write_events(judged)))


def _carry(row: Judged) -> Entry:
    """Put a recorded answer into the log entry of another call of its kind."""
    entry, answer = golden_entry(row["carrier"]), recording(row["recording"])
    if "x-kong-llm-model" in entry["response"]["headers"]:
        model = f"{row['provider']}/{row['request_model']}"
        entry["response"]["headers"]["x-kong-llm-model"] = model
    ai = entry.setdefault("ai", {})
    if "proxy" in ai:
        ai["proxy"]["usage"] = answer["ai_proxy_logged"]
        ai["proxy"]["meta"] |= {
            "provider_name": row["provider"],
            "request_model": row["request_model"],
            "response_model": row["request_model"],
        }
    ai["tallyman"] = answer["published"]
    return entry


def synthetic_cases() -> Iterator[Case]:
    for path in sorted((HERE / "synthetic").glob("*.yaml")):
        for written in yaml.safe_load(path.read_text()):
            if "values" not in written:
                yield _change(written, written["case"], {})
            for value in written.get("values", ()):
                yield _change(written, f"{written['case']}: {value!r}", {written["at"]: value})


def _change(written: dict[str, Any], name: str, value: dict[str, Any]) -> Case:
    entry = golden_entry(written["from"])
    copied = _copied(entry)
    for path, new in written.get("rename", {}).items():
        _put(entry, new, _drop(entry, path))
    for path in written.get("drop", ()):
        if not path.startswith("ai/tallyman"):
            _drop(entry, path)
    if "reader" in written:
        reader = written["reader"]
        published = recording(reader)["published"] if isinstance(reader, str) else reader
        _put(entry, "ai/tallyman", copy.deepcopy(published))
    for path in written.get("drop", ()):
        if path.startswith("ai/tallyman"):
            _drop(entry, path)
    for path, new in {**written.get("put", {}), **value}.items():
        _put(entry, path, copy.deepcopy(new))

    configuration = written.get("configuration", {})
    expect = written["expect"]
    if expect in ("none", "bad"):
        return Case(name, entry, configuration, (), bad=expect == "bad")
    (row,) = [r for r in read_table("golden-without-reader.md") if r["case"] == written["from"]]
    calls = expect if isinstance(expect, list) else [expect]
    events = [event for call in calls for event in write_events(copied | row | call)]
    invalid_counts = sum(call.get("invalid_counts", 0) for call in calls)
    return Case(name, entry, configuration, tuple(events), invalid_counts)


def _put(entry: Entry, path: str, value: object) -> None:
    *parents, last = path.split("/")
    for name in parents:
        entry = entry.setdefault(name, {})
    entry[last] = value


def _drop(entry: Entry, path: str) -> object:
    *parents, last = path.split("/")
    for name in parents:
        entry = entry[name]
    return entry.pop(last)
