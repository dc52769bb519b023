"""Settings: what stops the start, and in which words."""

import re
from pathlib import Path

import pytest
from tallyman.config import ENVIRONMENT_ALONE, Settings, load, variable_of
from tallyman.errors import ConfigurationError

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "config"):
        monkeypatch.delenv(variable_of(name), raising=False)


def read(monkeypatch: pytest.MonkeyPatch, file: Path | None = None, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load(file, variables)


def test_the_environment_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tallyman.yaml"
    file.write_text("port: 1000\nhost: 0.0.0.0\n")

    settings = read(monkeypatch, file, TALLYMAN_PORT="2000")

    assert (settings.host, settings.port) == ("0.0.0.0", 2000)


def test_the_file_can_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tallyman.yaml"
    file.write_text("port: 1000\n")

    assert read(monkeypatch, TALLYMAN_CONFIG=str(file)).port == 1000


def test_a_wrong_variable_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as stopped:
        read(monkeypatch, TALLYMAN_PORT="99999")

    assert str(stopped.value) == "TALLYMAN_PORT is wrong: it should be less than or equal to 65535"


def test_a_wrong_setting_of_the_file_is_named_with_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tallyman.yaml"
    file.write_text("port: many\nprot: 1\n")

    with pytest.raises(ConfigurationError) as stopped:
        read(monkeypatch, file)

    assert f"port in {file} is wrong: it should be a valid integer" in str(stopped.value)
    assert f"prot in {file}: no such setting" in str(stopped.value)


def test_an_unknown_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="TALLYMAN_PROT: no such setting"):
        read(monkeypatch, TALLYMAN_PROT="8888")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("port: [1", "is not YAML at line", id="broken YAML"),
        pytest.param("- port", "must hold settings as `name: value` lines", id="a list"),
        pytest.param(None, "No such file", id="no file"),
    ],
)
def test_a_file_that_cannot_be_read_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, sentence: str
) -> None:
    file = tmp_path / "tallyman.yaml"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        read(monkeypatch, file)


def test_a_password_is_never_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = read(monkeypatch, TALLYMAN_DATABASE_URL="postgresql://user:canary@host/name")
    file = tmp_path / "tallyman.yaml"
    file.write_text("database_url: postgresql://user:canary@host\n  clickhouse_url: [\n")

    with pytest.raises(ConfigurationError) as stopped:
        read(monkeypatch, file)

    assert "canary" not in repr(settings)
    assert "canary" not in str(stopped.value)


def test_every_setting_is_documented_with_its_default() -> None:
    rows = {
        match[1]: match[0]
        for match in re.finditer(r"^\| `(TALLYMAN_\w+)` .*$", DOCUMENTATION.read_text(), re.M)
    }

    assert set(rows) == {variable_of(name) for name in Settings.model_fields}
    for name, setting in Settings.model_fields.items():
        default = "–" if setting.default is None else f"`{setting.default}`"
        in_file = "–" if name in ENVIRONMENT_ALONE else f"`{name}`"
        assert rows[variable_of(name)] == (
            f"| `{variable_of(name)}` | {in_file} | {default} | {setting.description} |"
        )


@pytest.mark.parametrize("name", sorted(ENVIRONMENT_ALONE))
def test_what_can_take_money_is_not_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "tallyman.yaml"
    file.write_text(f"{name}: sk_test_canary\n")

    with pytest.raises(ConfigurationError, match="from the environment alone") as stopped:
        read(monkeypatch, file)

    assert "canary" not in str(stopped.value)


def test_no_document_has_a_reader_set_a_variable_that_stops_the_start() -> None:
    known = {variable_of(name) for name in (*Settings.model_fields, "config")}
    root = DOCUMENTATION.parents[1]
    named = {
        (str(file.relative_to(root)), name)
        for file in (root / "README.md", *root.glob("docs/*.md"), *root.glob("examples/**/*.md"))
        for name in re.findall(r"(?<!\w)TALLYMAN_[A-Z_]*[A-Z]", file.read_text())
    }

    unknown = {(file, name) for file, name in named if name not in known}
    assert unknown == {("docs/deployment.md", "TALLYMAN_KONG_NODE_ID")}  # the plugin server's own
