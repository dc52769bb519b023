"""The decK files are what their parts say, and what Kong, decK and the plugin take."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tallyman.kong_config import load_usage_configuration
from tallyman_kong.schema import SCHEMA
from tallyman_kong.usage import configuration

from deck import build

DECK = Path(build.__file__).parent
VARIABLE = re.compile(r'\$\{\{ env "(DECK_\w+)" \}\}')
every_file = pytest.mark.parametrize("name", build.FILES)

# What Kong 3.9.3's own schemas have of the fields that may stand in the files.
AI_PROXY = {
    "route_type": None,
    "auth": {"header_name": None, "header_value": None},
    "model": {
        "provider": None,
        "name": None,
        "options": {"upstream_url": None, "anthropic_version": None, "max_tokens": None},
    },
    "logging": {"log_statistics": None, "log_payloads": None},
}
QUEUE = ("max_batch_size", "max_coalescing_delay", "max_entries", "max_retry_time")
HTTP_LOG = {
    **dict.fromkeys(("http_endpoint", "method", "content_type", "timeout", "keepalive")),
    "headers": None,
    "custom_fields_by_lua": None,
    "queue": dict.fromkeys(QUEUE),
}
PLUGINS: dict[str, dict[str, Any]] = {
    "key-auth": {"key_names": None, "hide_credentials": None},
    "ai-proxy": AI_PROXY,
    "pre-function": {"access": None, "header_filter": None, "body_filter": None},
    "post-function": {"access": None},
    "http-log": HTTP_LOG,
}


def rendered(name: str, **values: str) -> Any:
    """The file as decK reads it: the variables are put into the text before it is YAML."""
    text = (DECK / name).read_text()
    return yaml.safe_load(VARIABLE.sub(lambda found: values.get(found[1], f"of {found[1]}"), text))


def plugins(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield from node.get("plugins", [])
        for value in node.values():
            yield from plugins(value)
    elif isinstance(node, list):
        for item in node:
            yield from plugins(item)


def plugin(name: str, within: Any) -> dict[str, Any]:
    (found,) = (plugin for plugin in plugins(within) if plugin["name"] == name)
    return found


def check_fields(given: Any, fields: Any, at: str) -> None:
    if fields is None:
        return
    for key, value in given.items():
        assert key in fields, f"{at}.{key}"
        check_fields(value, fields[key], f"{at}.{key}")


def check_schema(given: Any, fields: list[dict[str, dict[str, Any]]], at: str) -> None:
    """That each value is one of the field's kind in the plugin's own schema."""
    kinds = {
        "string": "str",
        "boolean": "bool",
        "integer": "int",
        "array": "list",
        "record": "dict",
    }
    known: dict[str, dict[str, Any]] = {
        name: field for one in fields for name, field in one.items()
    }
    for key, value in given.items():
        assert key in known, f"{at}.{key}"
        field = known[key]
        assert type(value).__name__ == kinds[field["type"]], f"{at}.{key}"
        assert value in field.get("one_of", [value]), f"{at}.{key}"
        if field["type"] == "record":
            check_schema(value, field["fields"], f"{at}.{key}")
        if field["type"] == "array" and field["elements"]["type"] == "record":
            for element in value:
                check_schema(element, field["elements"]["fields"], f"{at}.{key}[]")


@every_file
def test_the_file_is_up_to_date_with_its_parts(name: str) -> None:
    text = (DECK / name).read_text()

    assert build.filled(text) == text, "stale: run `make deck`"


def test_a_change_of_a_part_shows_in_the_file_and_filling_twice_changes_nothing() -> None:
    empty = "  # <reader ask_for_usage=false cure_split_frames=true>\n  # </reader>\nlast: line\n"

    filled = build.filled(empty)

    assert "local ASK_FOR_USAGE = false" in filled
    assert filled.endswith("  # </reader>\nlast: line\n")
    assert build.filled(filled) == filled
    assert build.filled(filled.replace("framings.lines", "framings.other")) == filled


def test_a_switch_that_the_reader_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no switch ask_for_money"):
        build.filled("# <reader ask_for_money=true>\n# </reader>\n")


@every_file
def test_every_entity_is_tagged_and_every_plugin_field_is_one_that_kong_has(name: str) -> None:
    file = rendered(name, DECK_TALLYMAN_SINK="http")

    assert file["_format_version"] == "3.0"
    assert file["_info"] == {"select_tags": ["tallyman"]}
    assert set(file) == {"_format_version", "_info", "consumers", "services"}
    for each in plugins(file):
        if each["name"] == "tallyman":
            check_schema(each["config"], SCHEMA, "tallyman")
        else:
            assert set(each) == {"name", "config"}
            check_fields(each["config"], PLUGINS[each["name"]], each["name"])


@pytest.mark.parametrize("name", ["kong.yaml", "providers.yaml"])
@pytest.mark.parametrize("sink", ["http", "kafka"])
def test_the_plugin_takes_its_configuration_and_deck_sees_no_difference_for_ever(
    name: str, sink: str
) -> None:
    found = [p for p in plugins(rendered(name, DECK_TALLYMAN_SINK=sink)) if p["name"] == "tallyman"]

    for each in found:
        assert each["protocols"] == ["grpc", "grpcs", "http", "https"]
        assert each["config"]["sink"] == sink
        assert configuration(each["config"]) == configuration({})  # the documented defaults
    assert len(found) == name.count("kong") + 2 * name.count("providers")


def test_replay_reads_how_calls_are_counted_from_any_of_the_files() -> None:
    counted = [
        load_usage_configuration(DECK / name, {})
        for name in ("kong.yaml", "providers.yaml", "tallyman.yaml")
    ]

    assert counted == [configuration({})] * 3


def test_kong_yaml_is_the_walkthrough() -> None:
    file = rendered("kong.yaml", DECK_ACME_KEY="acme-secret-key", DECK_OPENAI_API_KEY="sk-1")

    (service,) = file["services"]
    assert service["name"] == "ai-service"
    assert service["routes"] == [{"name": "ai-chat", "paths": ["/chat"]}]
    assert file["consumers"] == [
        {"username": "acme-corp", "keyauth_credentials": [{"key": "acme-secret-key"}]}
    ]
    assert plugin("key-auth", file)["config"] == {"key_names": ["apikey"], "hide_credentials": True}
    assert plugin("ai-proxy", file)["config"] == {
        "route_type": "llm/v1/chat",
        "auth": {"header_name": "Authorization", "header_value": "Bearer sk-1"},
        "model": {
            "provider": "openai",
            "name": "gpt-4o",
            "options": {"upstream_url": "of DECK_OPENAI_URL"},
        },
        "logging": {"log_statistics": True, "log_payloads": False},
    }


@every_file
def test_statistics_are_logged_and_payloads_and_keys_are_not(name: str) -> None:
    file = rendered(name)

    for each in plugins(file):
        if each["name"] == "ai-proxy":
            assert each["config"]["logging"] == {"log_statistics": True, "log_payloads": False}
        if each["name"] == "key-auth":
            assert each["config"]["hide_credentials"] is True
    for service in file["services"]:
        assert [p["name"] for p in service["plugins"]].count("key-auth") == 1


def test_without_the_plugin_http_log_sends_to_the_collector_with_a_key() -> None:
    file = rendered(
        "no-plugin.yaml", DECK_TALLYMAN_URL="http://collector:8888", DECK_TALLYMAN_API_KEY="tm_1"
    )

    names = [p["name"] for p in plugins(file)]
    config = plugin("http-log", file)["config"]
    assert "tallyman" not in names
    assert config["http_endpoint"] == "http://collector:8888/kong/log"
    assert config["headers"] == {"Authorization": "Bearer tm_1"}
    assert set(config["custom_fields_by_lua"].values()) == {"return nil"}


def test_usage_is_asked_for_only_where_openai_s_format_is_spoken() -> None:
    asked = {}
    for service in rendered("providers.yaml")["services"]:
        reader = next(p for p in service["plugins"] if p["name"] == "pre-function")
        providers = {
            p["config"]["model"]["provider"]
            for p in plugins(service["routes"])
            if "model" in p["config"]
        }
        asked[frozenset(providers)] = "ASK_FOR_USAGE = true" in reader["config"]["access"][0]

    assert asked == {frozenset({"openai"}): True, frozenset({"anthropic", "gemini"}): False}


@every_file
def test_secrets_come_by_variables_and_only_the_walkthrough_s_key_has_a_default(name: str) -> None:
    used = set(VARIABLE.findall((DECK / name).read_text()))
    with_default = set(re.findall(r"\$\{(DECK_\w+):=", (DECK / "defaults.env").read_text()))

    assert {v for v in used & with_default if v.endswith("_KEY")} == {"DECK_ACME_KEY"}
    assert {v for v in used - with_default if not v.endswith("_KEY")} == set()
    for line in (DECK / name).read_text().splitlines():
        if re.match(r"\s*-? ?(key|header_value|api_token|Authorization):", line):
            assert VARIABLE.search(line), line


@every_file
def test_nothing_but_variables_has_the_marks_that_deck_replaces(name: str) -> None:
    text = (DECK / name).read_text()

    assert text.count("${{") == len(VARIABLE.findall(text))
    assert "${{" not in (DECK / "usage_reader.lua").read_text()


def test_the_defaults_hold_where_nothing_is_set_and_yield_to_what_is() -> None:
    def default(variable: str, **environment: str) -> str:
        command = f'. "{DECK}/defaults.env"; sh -c \'printf %s "${variable}"\''
        environment["PATH"] = os.environ["PATH"]
        return subprocess.check_output(["sh", "-euc", command], env=environment, text=True)

    assert default("DECK_ACME_KEY") == "acme-secret-key"
    assert default("DECK_ACME_KEY", DECK_ACME_KEY="another") == "another"
    assert default("DECK_OPENAI_URL") == "https://api.openai.com/v1/chat/completions"


@every_file
def test_every_variable_is_in_the_readme(name: str) -> None:
    readme = (DECK / "README.md").read_text()

    for variable in VARIABLE.findall((DECK / name).read_text()):
        assert f"`{variable}`" in readme


@every_file
@pytest.mark.skipif(
    shutil.which("luajit") is None,
    reason="needs LuaJIT (Debian's package luajit), in which Kong loads the usage reader",
)
def test_every_piece_of_lua_loads_as_a_chunk_of_its_own(name: str, tmp_path: Path) -> None:
    for each in plugins(rendered(name)):
        if not each["name"].endswith("-function"):
            continue
        for pieces in each["config"].values():
            for piece in pieces:
                path = tmp_path / "piece.lua"
                path.write_text(piece)
                subprocess.run(["luajit", "-b", str(path), str(tmp_path / "out")], check=True)
