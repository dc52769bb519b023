"""Owns messages in the plugin's form and near it: what stands in Kafka, and what might.

Which of them are events is `tallyman.stream.message`'s.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

COUNTS = (0, 1, 23, -5, 10**18 - 1, -(10**18) + 1, None)
ODD_COUNTS: tuple[Any, ...] = (
    10**18,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64,
    1.0,
    1e3,
    -0.0,
    True,
    "12",
    "",
    [],
    {},
)
TEXTS = (
    "request",
    "gpt-4o",
    "",
    "ü",
    "日本",
    "🙂",
    "a,b:{c}",
    "[x",
    "{x",
    "'",
    "\u2028",
    "x" * 300,
    None,
)
ODD_TEXTS = ('a"b', "a\\b", "\t", "\u0000", 5, False, ["a"], {"a": 1})
TIMES = (
    "2026-11-21T09:24:33.353Z", "1970-01-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z",
    "2000-02-29T00:00:00.000Z", "2199-12-31T23:59:59.999Z", "2107-01-01T00:00:00.001Z",
    "2026-02-28T12:00:00.000Z", "2026-12-31T00:00:00.120Z",
)  # fmt: skip
ODD_TIMES = (
    "2023-02-29T00:00:00.000Z", "2100-02-29T00:00:00.000Z", "2026-04-31T00:00:00.000Z",
    "2026-13-01T00:00:00.000Z", "2026-00-01T00:00:00.000Z", "2026-11-00T00:00:00.000Z",
    "2026-11-21T24:00:00.000Z", "2026-11-21T23:60:00.000Z", "2026-11-21T23:59:60.000Z",
    "1969-12-31T23:59:59.999Z", "2200-01-01T00:00:00.000Z", "2026-11-21T09:24:33Z",
    "2026-11-21T09:24:33.353123Z", "2026-11-21T09:24:33.353+00:00", "2026-11-21 09:24:33.353Z",
    "2026-11-21T09:24:33.353z", "+026-11-21T09:24:33.353Z", "٢٠٢٦-11-21T09:24:33Z", "", None, 5,
)  # fmt: skip
NAMES = ("kong", "llm.tokens", "x", "ü" * 128, "n" * 256, "a b", "{}")
ODD_NAMES = ("", "n" * 257, "ü" * 256, "ü" * 257, 'a"b', "a\\b", None, 5)
SEQUENCES = ("0", "000000000000000001", "9" * 20)
ODD_SEQUENCES = ("", "9" * 21, "-1", "1a", "１", " 1", None, 1)
COUNT_FIELDS = ("tokens", "waived_tokens", "status_code", "latency_ms", "llm_latency_ms")
TEXT_FIELDS = (
    "type", "usage_source", "provider", "model", "request_model", "consumer_id", "credential_id",
    "service", "route", "workspace", "outcome", "task", "feature",
)  # fmt: skip


PLAIN: dict[str, Any] = {
    "nodeid": "kong-1", "sequence": "1", "specversion": "1.0", "id": "i", "source": "s", "type": "t",
    "subject": "u", "time": TIMES[0], "datacontenttype": "application/json", "data": {"tokens": 1},
}  # fmt: skip
ODD_DATA = (
    b'{"more":1}', b'{"more":1e999}', b'{"more":0.12345678901234567891}', b'{"tokens":-0}',
    b'{"tokens":1,"tokens":2}', b'{"tokens":01}', b'{"tokens":1} ', b' {"tokens":1}', b"[]", b"{}", b"null",
    b'{"' + b"k" * 257 + b'":1}', b'{"model":"' + b"x" * 70_000 + b'"}', b'{"model":"' + b" " * 600_000 + b'"}',
)  # fmt: skip


@dataclass(frozen=True)
class Produced:
    """A message as Kafka gives it."""

    value: bytes | None
    offset: int
    topic: str = "usage"
    partition: int = 0
    timestamp: int = 1_795_253_073_353
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def message(chance: random.Random, number: int, *, oddness: float = 0.05) -> bytes:
    """The plugin's event of that number; now and then something in it is odd."""

    def one(usual: tuple[Any, ...], odd: tuple[Any, ...]) -> Any:
        return chance.choice(odd if chance.random() < oddness else usual)

    data = {name: one(COUNTS, ODD_COUNTS) for name in chance.sample(COUNT_FIELDS, k=3)}
    data |= {name: one(TEXTS, ODD_TEXTS) for name in chance.sample(TEXT_FIELDS, k=5)}
    data |= {"stream": one((True, False, None), (1, "true"))}
    fields = {
        "nodeid": one(NAMES, ODD_NAMES),
        "sequence": one(SEQUENCES, ODD_SEQUENCES),
        "specversion": one(("1.0",), ("0.3", "", None, 1.0)),
        "id": f"{number:032x}:proxy:request",
        "source": one(NAMES, ODD_NAMES),
        "type": one(NAMES, ODD_NAMES),
        "subject": one(NAMES, ODD_NAMES),
        "time": one(TIMES, ODD_TIMES),
        "datacontenttype": one(("application/json",), (None, "text/plain", "")),
        "data": one((data,), (None, [], "text", 5, {}, {**data, "more": 1}, {**data, "model": {}})),
    }
    pairs = [(name, value) for name, value in fields.items() if chance.random() >= oddness / 5]
    pairs += [pair for pair in pairs if chance.random() < oddness / 10]
    if chance.random() < oddness:
        pairs.append((chance.choice(("dataschema", "traceparent")), "https://example.com/schema"))
    if chance.random() < oddness:
        chance.shuffle(pairs)
    return _spoiled(chance, _written(chance, pairs, oddness), oddness)


def _written(chance: random.Random, pairs: list[tuple[str, Any]], oddness: float) -> bytes:
    """The pairs as JSON, in which a name may stand twice."""
    comma, colon = (", ", ": ") if chance.random() < oddness / 2 else (",", ":")
    within = (", ", ": ") if chance.random() < 0.2 else (",", ":")
    is_ascii = chance.random() < oddness
    members = [
        f"{json.dumps(name)}{colon}{json.dumps(value, separators=within, ensure_ascii=is_ascii)}"
        for name, value in pairs
    ]
    return ("{" + comma.join(members) + "}").encode()


def _spoiled(chance: random.Random, message: bytes, oddness: float) -> bytes:
    if chance.random() < oddness:
        at = chance.randrange(len(message))
        return message[:at] + bytes([chance.randrange(256)]) + message[at + chance.randrange(2) :]
    if chance.random() < oddness:
        return chance.choice(
            (b"\xef\xbb\xbf" + message, message + b" \n", b" " + message, message * 2, message[:-1])
        )
    return message


def one_odd_thing_at_a_time() -> Iterator[bytes]:
    """A plain event with each of the values above in each of its fields."""
    values = {
        **dict.fromkeys(("nodeid", "id", "source", "type", "subject"), NAMES + ODD_NAMES),
        "sequence": SEQUENCES + ODD_SEQUENCES,
        "time": TIMES + ODD_TIMES,
    }
    for name, some in values.items():
        for value in some:
            yield _compact({**PLAIN, name: value})
    for name in (*COUNT_FIELDS, *TEXT_FIELDS, "stream"):
        for value in (*COUNTS, *ODD_COUNTS, *TEXTS, *ODD_TEXTS):
            yield _compact({**PLAIN, "data": {"tokens": 1, name: value}})
    for data in ODD_DATA:
        yield _compact(PLAIN).replace(b'{"tokens":1}', data)


def _compact(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
