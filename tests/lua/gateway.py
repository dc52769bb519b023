"""Owns running the usage reader under LuaJIT, in gateway.lua's copy of Kong's sandbox.

It judges nothing: it plays chunks into the reader and returns what was published and passed on.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
READER = ROOT / "deck" / "usage_reader.lua"
RECORDINGS = ROOT / "tests" / "golden" / "chunks"
CONTENT_TYPES = {
    "lines": "text/event-stream",
    "aws": "application/vnd.amazon.eventstream",
    "json": "application/json",
}

Chunk = tuple[bytes, bool]

needs_luajit = pytest.mark.skipif(
    shutil.which("luajit") is None,
    reason="needs LuaJIT (Debian's package luajit), in which Kong runs the usage reader",
)


@dataclass(frozen=True)
class Switches:
    """The reader's two switches, and whether it asked for usage in this call."""

    ask: bool = False
    cure: bool = False

    @property
    def letters(self) -> str:
        return ("y" if self.ask else "n") + ("y" if self.cure else "n")


OFF = Switches()
CURE = Switches(cure=True)
ASK = Switches(ask=True)
BOTH = Switches(ask=True, cure=True)


@dataclass(frozen=True)
class Recording:
    """An answer as the reader saw it on a real Kong, and what it published of it there."""

    case: str
    mode: str
    chunks: tuple[Chunk, ...]
    published: dict[str, Any]

    @property
    def body(self) -> bytes:
        return b"".join(chunk for chunk, _ in self.chunks)

    @property
    def ended(self) -> bool:
        return self.chunks[-1][1]


def _recording(path: Path) -> Recording:
    content = json.loads(path.read_text())
    return Recording(
        content["case"],
        content["published"]["mode"],
        tuple((base64.b64decode(chunk), eof) for chunk, eof in content["chunks"]),
        content["published"],
    )


def recordings() -> list[Recording]:
    return [_recording(path) for path in sorted(RECORDINGS.glob("*.json"))]


def different_bodies() -> list[Recording]:
    """One recording of each body: many differ only in where TCP had cut them."""
    first: dict[tuple[bytes, bool, str], Recording] = {}
    for recording in recordings():
        first.setdefault((recording.body, recording.ended, recording.mode), recording)
    return list(first.values())


def run(command: str, *fields: str | bytes) -> dict[str, Any]:
    """Run one command of gateway.lua; nothing but what the sandbox allows may have been touched."""
    encoded = [field if isinstance(field, bytes) else field.encode() for field in fields]
    done = subprocess.run(
        ["luajit", str(Path(__file__).with_name("gateway.lua")), command],
        input=b"".join(b"%d:%b" % (len(f), f) for f in (READER.read_bytes(), *encoded)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["forbidden"] == ""
    return answer


def _answer(mode: str, switches: Switches, length: str = "") -> tuple[str, ...]:
    asked = "y" if switches.ask else "n"
    return switches.letters, asked, CONTENT_TYPES[mode], length, ""


def play(
    mode: str, chunks: Iterable[Chunk], switches: Switches = OFF, length: str = ""
) -> dict[str, Any]:
    """Give the reader these chunks; `passed` are the bytes that it passed on for each."""
    fields: list[str | bytes] = []
    for chunk, eof in chunks:
        fields += [chunk, "y" if eof else "n"]
    played = run("play", *_answer(mode, switches, length), *fields)
    passed = played["passed"] or []
    return {**played, "passed": [piece.encode("latin-1") for piece in passed]}


def in_bytes(body: bytes) -> list[Chunk]:
    """The body byte by byte, then Kong's last, empty chunk."""
    return [(body[i : i + 1], False) for i in range(len(body))] + [(b"", True)]


def cut(recording: Recording, switches: Switches, step: int) -> dict[str, Any]:
    """Cut the body into two at every step-th byte (at every one near its ends), and into bytes."""
    done = run(
        "cut",
        *_answer(recording.mode, switches),
        recording.body,
        "y" if recording.ended else "n",
        recording.mode,
        str(step),
    )
    return {**done, "passed": done["passed"].encode("latin-1")}


def flood(mode: str, piece: bytes, times: int, then: bytes, switches: Switches) -> dict[str, Any]:
    """Give one piece many times over, then the last, then the end."""
    return run("flood", *_answer(mode, switches), piece, str(times), then)


def fuzz(mode: str, bodies: Sequence[bytes], switches: Switches) -> dict[str, Any]:
    """Give each body in pieces of random lengths (seeded) to a reader of its own."""
    return run("fuzz", *_answer(mode, switches), *bodies)


def fail(mode: str, first: bytes, second: bytes, switches: Switches) -> dict[str, Any]:
    """Give two chunks, the second twice, to a reader that fails from the second on."""
    done = run("fail", *_answer(mode, switches), first, second)
    return {**done, "passed": [piece.encode("latin-1") for piece in done["passed"]]}
