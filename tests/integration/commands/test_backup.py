"""`tallyman backup` and `restore`, as they are typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tallyman.cli import main


def tallyman(directory: Path, *arguments: str, **settings: str) -> Result:
    environment = {"TALLYMAN_DATA_DIR": str(directory), **settings}
    return CliRunner().invoke(main, list(arguments), env=environment, catch_exceptions=False)


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_what_is_backed_up_is_there_after_restoring(tmp_path: Path, name: str) -> None:
    tallyman(tmp_path / "data", "keys", "create", "--name", "till", "--role", "billing")

    saved = tallyman(tmp_path / "data", "backup", str(tmp_path / name))
    again = tallyman(tmp_path / "data", "backup", str(tmp_path / name))
    tallyman(tmp_path / "data", "keys", "create", "--name", "later", "--role", "read")
    refused = tallyman(tmp_path / "data", "restore", str(tmp_path / name))
    restored = tallyman(tmp_path / "data", "restore", str(tmp_path / name), "--replace")

    assert (saved.exit_code, again.exit_code, refused.exit_code) == (0, 1, 2)
    assert "is not empty; --replace" in refused.output
    assert "can be sent again" in restored.output
    listed = tallyman(tmp_path / "data", "keys", "list").output
    assert ("till" in listed, "later" in listed) == (True, False)


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("TALLYMAN_DATABASE_URL", "postgresql://tallyman@localhost/tallyman"),
        ("TALLYMAN_CLICKHOUSE_URL", "http://localhost:8123/tallyman"),
    ],
)
def test_servers_have_tools_of_their_own(tmp_path: Path, setting: str, url: str) -> None:
    for command in ("backup", "restore"):
        result = tallyman(tmp_path / "data", command, str(tmp_path / "backup"), **{setting: url})

        assert result.exit_code == 2
        assert "of Postgres take pg_dump, and of ClickHouse its BACKUP" in result.output
    assert list(tmp_path.iterdir()) == []
