"""`tallyman audit`: who did what, as a table and as JSON."""

import json
import os
import pwd
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from tallyman.cli import main


def tallyman(directory: Path, *arguments: str) -> Result:
    environment = {"TALLYMAN_DATA_DIR": str(directory)}
    result = CliRunner().invoke(main, list(arguments), env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_what_commands_change_is_in_the_log_with_the_command_and_its_user(tmp_path: Path) -> None:
    tallyman(tmp_path, "keys", "create", "--name", "till", "--role", "billing")
    key_id = lines(tmp_path)[0]["entity_id"]
    tallyman(tmp_path, "keys", "revoke", key_id)

    found = lines(tmp_path)

    user = pwd.getpwuid(os.getuid()).pw_name
    assert [(one["actor"], one["action"], one["entity"]) for one in found] == [
        (f"command:keys revoke:{user}", "revoked", "api_key"),
        (f"command:keys create:{user}", "created", "api_key"),
    ]
    assert found[0]["before"] | {"revoked_at": found[0]["after"]["revoked_at"]} == found[0]["after"]
    assert "sha256" not in str(found)
    assert len(lines(tmp_path, "--actor", "revoke")) == 1
    assert lines(tmp_path, "--namespace", "theirs") == lines(tmp_path, "--resource", "meter") == []
    assert lines(tmp_path, "--since", "2999-01-01T00:00:00+01:00") == []
    wrong = CliRunner().invoke(main, ["audit", "--since", "yesterday"])
    assert "'--since': must be a time such as 2026-12-01" in wrong.output


def test_the_table_says_what_was_changed_into_what(tmp_path: Path) -> None:
    tallyman(tmp_path, "keys", "create", "--name", "till", "--role", "read")
    key_id = lines(tmp_path)[0]["entity_id"]
    tallyman(tmp_path, "keys", "revoke", key_id)

    shown = tallyman(tmp_path, "audit", "--id", key_id, "--limit", "1").output

    assert "revoked_at: null → " in shown
    assert "created" not in shown


def lines(directory: Path, *options: str) -> list[dict[str, Any]]:
    printed = tallyman(directory, "audit", "--json", *options).output
    return [json.loads(line) for line in printed.splitlines()]
