"""`tallyman serve` as a process: its start, its first key, its lock, its end."""

import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.serving import serving, tallyman


def test_the_first_start_prints_an_admin_key_and_the_next_line_to_try(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        key = server.hear(r"(?m)^  (tm_\S+)$")[1]
        command = server.hear(r"(?m)^  (curl .*)$")[1]
        tried = subprocess.run(
            ["bash", "-c", f"{command} --silent --fail"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        status, said = server.stop()

    assert '"kong_konnect_llm_tokens"' in tried.stdout
    assert status == 0
    assert said.count(key) == 2

    with serving(tmp_path) as server:
        assert server.ask("GET", "/api/v3/openmeter/meters", key)[0] == 200
        assert "tm_" not in server.stop()[1]


def test_a_second_server_on_the_same_directory_is_stopped_by_a_sentence(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.port
        second = tallyman(tmp_path, "serve")

    assert second.returncode == 2
    assert second.stderr.startswith("tallyman: another tallyman (process ")
    assert "Traceback" not in second.stderr


def test_a_killed_server_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        key = server.hear(r"(tm_\S+)")[1]
        event = '{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x"}'
        assert server.ask("POST", "/api/v3/openmeter/events", key, event)[0] == 202
        server.process.kill()

    with serving(tmp_path) as server:
        assert server.port
        assert server.ask("GET", "/api/v3/openmeter/meters", key)[0] == 200


def test_keys_are_made_and_revoked_beside_the_running_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.port
        made = tallyman(tmp_path, "keys", "create", "--scope", "read", "--name", "dashboard")
        secret = made.stdout.strip()
        key_id = re.search(r"Key (\w{26})", made.stderr)
        assert key_id is not None
        assert server.ask("GET", "/api/v3/openmeter/meters", secret)[0] == 200
        assert server.ask("POST", "/api/v3/openmeter/meters", secret, "{}")[0] == 403

        revoked = tallyman(tmp_path, "keys", "revoke", key_id[1])
        deadline = time.monotonic() + 1
        while server.ask("GET", "/api/v3/openmeter/meters", secret)[0] == 200:
            assert time.monotonic() < deadline
        listed = tallyman(tmp_path, "keys", "list")

    assert (made.returncode, revoked.returncode, listed.returncode) == (0, 0, 0)
    assert "dashboard" in listed.stdout
    assert secret not in listed.stdout


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"TALLYMAN_PORT": "http"}, "TALLYMAN_PORT is wrong: it should be a valid integer"),
        ({"TALLYMAN_PROT": "1"}, "TALLYMAN_PROT: no such setting"),
        ({"TALLYMAN_DATABASE_URL": "mysql://canary@h/d"}, "must begin with postgresql://"),
        ({"TALLYMAN_CONFIG": "missing.yaml"}, "cannot read missing.yaml"),
        ({"TALLYMAN_KONG_CONFIG": "missing.yaml"}, "missing.yaml cannot be read"),
        ({"TALLYMAN_DATA_DIR": "/proc/nothing"}, "data_dir /proc/nothing cannot be made"),
        ({"TALLYMAN_DATA_DIR": "d" * 120}, "is too long a path"),
        ({"TALLYMAN_HOST": "192.0.2.1"}, "cannot listen on host 192.0.2.1"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    ended = tallyman(tmp_path, "serve", **settings)

    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "canary" not in ended.stderr


def test_a_taken_port_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = tallyman(tmp_path, "serve", TALLYMAN_PORT=str(port))

    assert ended.returncode == 2
    assert ended.stderr == (
        f"tallyman: cannot listen on host 127.0.0.1, port {port}: address already in use\n"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"TALLYMAN_DATABASE_URL": "postgresql://user:canary@127.0.0.1:9/name"},
        {"TALLYMAN_CLICKHOUSE_URL": "http://user:canary@127.0.0.1:9/name"},
    ],
)
def test_a_store_that_does_not_answer_stops_the_start_with_a_sentence(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    ended = tallyman(tmp_path, "serve", **settings)

    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "canary" not in ended.stderr


def test_a_request_under_way_is_finished_before_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        key = server.hear(r"(tm_\S+)")[1]
        event = b'{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x"}'
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /api/v3/openmeter/events HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer " + key.encode() + b"\r\n"
                b"Content-Type: application/json\r\n"
                b"Content-Length: " + str(len(event)).encode() + b"\r\n\r\n" + event[:10]
            )
            assert server.ask("GET", "/healthz", key)[0] == 200  # the first is being read by now
            server.process.send_signal(signal.SIGTERM)
            server.hear("Stopping")
            connection.sendall(event[10:])
            answer = connection.recv(1000)
        status, _ = server.end()

    assert answer.startswith(b"HTTP/1.1 202 ")
    assert status == 0


def test_the_log_has_no_key_no_query_string_and_no_body(tmp_path: Path) -> None:
    with serving(tmp_path, TALLYMAN_LOG_LEVEL="debug") as server:
        key = server.hear(r"(tm_\S+)")[1]
        server.ask("GET", "/api/v3/openmeter/meters?filter[key]=canary", key)
        server.ask("GET", "/canary?canary", "tm_canary")
        server.ask("POST", "/api/v3/openmeter/events", key, '{"canary": "canary"}')
        server.ask("POST", "/api/v3/openmeter/meters", key, '{"canary": "canary"}')
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET /canary canary HTTP/9.9\r\nAuthorization: canary\r\n\r\n")
            connection.recv(1000)
        _, said = server.stop()

    assert "canary" not in said
    assert said.count(key) == 2
    assert re.search(
        r"\d{4}-\d\d-\d\dT\S+Z INFO \S+ GET /meters 200 \d+ ms kong:trace:\w{32}", said
    )


def test_migrate_says_when_it_is_done(tmp_path: Path) -> None:
    ended = tallyman(tmp_path, "migrate")

    assert (ended.returncode, ended.stdout) == (0, "The tables are up to date.\n")


def test_it_serves_from_postgres_with_a_key_made_by_the_command(
    tmp_path: Path, postgres_url: str
) -> None:
    with serving(tmp_path, TALLYMAN_DATABASE_URL=postgres_url) as server:
        server.hear(r"Meters and keys: Postgres\.")
        made = tallyman(
            tmp_path, "keys", "create", "--scope", "admin", TALLYMAN_DATABASE_URL=postgres_url
        )
        status, listed = server.ask("GET", "/api/v3/openmeter/meters", made.stdout.strip())
        _, said = server.stop()

    assert (made.returncode, status) == (0, 200)
    assert '"kong_konnect_llm_tokens"' in listed
    assert "tm_" not in said
    assert not (tmp_path / "data" / "tallyman.sqlite3").exists()
