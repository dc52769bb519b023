"""Kong's log files become the plugin's events, each stored once, whichever way they come."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tallyman.stream.replay import connect
from tallyman_kong.usage import configuration, read

GOLDEN = Path(__file__).parents[2] / "golden" / "kong-3.9.3"
TALLYMAN = Path(sys.executable).with_name("tallyman")
PLUGIN = {"source": "gw-eu", "split_cached_tokens": True, "failed_calls": "charge"}
DECK = """
_format_version: "3.0"
services:
  - name: ai-service
    url: ${{ env "DECK_UPSTREAM" }}
    plugins:
      - name: tallyman
        config: {source: gw-eu, split_cached_tokens: true, failed_calls: charge}
"""


def entries() -> list[dict[str, Any]]:
    recorded = (json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json")))
    return [one["serialized_log"] for one in recorded if "serialized_log" in one]


def plugins_events() -> list[dict[str, Any]]:
    return [event for entry in entries() for event in read(entry, configuration(PLUGIN)).events]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kong.log"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries()))
    return path


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    path = tmp_path / "kong.yaml"
    path.write_text(DECK)
    return path


def tallyman(
    tmp_path: Path,
    *arguments: str | Path,
    stdin: bytes = b"",
    settings: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [TALLYMAN, *arguments],
        input=stdin,
        env=environment(tmp_path, settings or {}),
        capture_output=True,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def environment(tmp_path: Path, settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYMAN_")}
    return {**kept, "TALLYMAN_DATA_DIR": str(tmp_path / "data"), **settings}


@contextmanager
def serving(tmp_path: Path, **settings: str) -> Iterator[None]:
    process = subprocess.Popen(
        [TALLYMAN, "serve"],
        env=environment(tmp_path, {"TALLYMAN_PORT": "0", **settings}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "listens on" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_print_writes_the_plugins_events_and_stores_nothing(
    tmp_path: Path, log: Path, deck: Path
) -> None:
    done = tallyman(tmp_path, "replay", "--print", "--kong-config", deck, log)

    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == plugins_events()
    assert not (tmp_path / "data").exists()


def test_what_was_replayed_is_known_the_second_time(tmp_path: Path, log: Path, deck: Path) -> None:
    count = len(plugins_events())

    first = tallyman(tmp_path, "replay", "--kong-config", deck, log)
    with serving(tmp_path):
        second = tallyman(tmp_path, "replay", "--kong-config", deck, log)
    elsewhere = tallyman(tmp_path, "replay", "--kong-config", deck, "--namespace", "other", log)

    assert first.stdout == f"found {count}, new {count}, known 0, bad 0\n"
    assert second.stdout == f"found {count}, new 0, known {count}, bad 0\n"
    assert elsewhere.stdout == f"found {count}, new {count}, known 0, bad 0\n"


async def test_the_plugin_replay_and_kongs_http_log_give_one_event(
    tmp_path: Path, log: Path, deck: Path
) -> None:
    sent = [
        {**event, "nodeid": "kong-1", "sequence": f"{number:018d}"}
        for number, event in enumerate(plugins_events())
    ]
    count = len(sent)
    with serving(tmp_path, TALLYMAN_KONG_CONFIG=str(deck)):
        async with connect(tmp_path / "data" / "tallyman.sock") as session:
            url = "http://tallyman/api/v3/openmeter/events"
            async with session.post(url, json=sent) as answer:
                assert answer.headers["Tallyman-New"] == str(count)
            async with session.post("http://tallyman/kong/log", json=entries()) as answer:
                taken = await answer.json()
        replayed = tallyman(tmp_path, "replay", "--kong-config", deck, log)

    assert (taken["found"], taken["new"], taken["known"], taken["conflicts"]) == (
        count,
        0,
        count,
        0,
    )
    assert replayed.stdout == f"found {count}, new 0, known {count}, bad 0\n"


def test_a_running_server_is_asked_in_the_namespace_that_is_named(
    tmp_path: Path, log: Path
) -> None:
    with serving(tmp_path):
        first = tallyman(tmp_path, "replay", "--namespace", "größe/1", log)
        again = tallyman(tmp_path, "replay", "--namespace", "größe/1", log)
        other = tallyman(tmp_path, "replay", log)

    news = [int(done.stdout.split()[3].strip(",")) for done in (first, again, other)]
    assert news == [124, 0, 124]


def test_compressed_files_standard_input_and_arrays_are_read_alike(
    tmp_path: Path, log: Path
) -> None:
    packed = tmp_path / "kong.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    array = json.dumps(entries()).encode()

    printed = [
        tallyman(tmp_path, "replay", "--print", *arguments, stdin=stdin).stdout
        for arguments, stdin in ((["-"], log.read_bytes()), ([packed], b""), (["-"], array))
    ]

    assert printed[0] == printed[1] == printed[2]
    assert len(printed[0].splitlines()) == 124


def test_bad_lines_are_named_without_their_text_and_the_rest_is_taken(
    tmp_path: Path, log: Path
) -> None:
    bad_call = {**entries()[-1], "started_at": None}
    lines = log.read_bytes() + b'{"canary": \n7\n\n' + json.dumps(bad_call).encode() + b'\n{"cana'
    log.write_bytes(b"\0\0\0" + lines)
    first_bad = len(entries()) + 1

    done = tallyman(tmp_path, "replay", log)

    assert done.returncode == 1
    assert done.stdout == "found 124, new 124, known 0, bad 3\n"
    assert done.stderr.splitlines() == [
        f"{log}:{first_bad}: the line is not JSON",
        f"{log}:{first_bad + 1}: the entry is no object",
        f"{log}:{first_bad + 3}: the entry has no started_at in Unix milliseconds",
        f"{log}:{first_bad + 4}: the last line is not finished; replay it again later",
    ]
    assert "cana" not in done.stdout + done.stderr


def test_a_damaged_archive_is_said_and_what_comes_before_is_taken(
    tmp_path: Path, log: Path
) -> None:
    packed = gzip.compress(log.read_bytes())
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])

    done = tallyman(tmp_path, "replay", "--print", tmp_path / "cut.gz")

    assert done.returncode == 1
    assert "damaged from here on" in done.stderr
    assert done.stdout


def test_an_event_stored_with_another_content_is_a_conflict(tmp_path: Path, log: Path) -> None:
    tallyman(tmp_path, "replay", log)
    changed = log.read_text().replace('"username": "alice"', '"username": "mallory"')
    log.write_text(changed)

    done = tallyman(tmp_path, "replay", log)

    assert done.returncode == 1
    assert "new 0" in done.stdout
    assert "conflicts" in done.stdout


@pytest.mark.parametrize("name", ["none.log", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    done = tallyman(tmp_path, "replay", "--print", tmp_path / name)

    assert done.returncode == 1
    assert "cannot be read" in done.stderr


def test_status_shows_what_is_stored_whether_or_not_a_server_runs(
    tmp_path: Path, log: Path
) -> None:
    nothing = tallyman(tmp_path, "status")
    tallyman(tmp_path, "replay", log)
    with serving(tmp_path):
        served = tallyman(tmp_path, "status")
    alone = tallyman(tmp_path, "status")

    assert nothing.returncode == 1
    assert "nothing is stored" in nothing.stderr
    for done in (served, alone):
        assert done.returncode == 0, done.stderr
        assert "124 in chDB" in done.stdout
        assert "newest in default" in done.stdout
    assert "server runs" in served.stdout
    assert "not on this machine" in alone.stdout
