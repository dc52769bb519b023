"""One file says how calls are counted, for the plugin and for everything that reads logs later."""

from pathlib import Path

import pytest
from tallyman.errors import ConfigurationError
from tallyman.kong_config import load_usage_configuration
from tallyman_kong.usage import Attribute, UsageConfiguration

GATEWAY = """
_format_version: "3.0"
plugins:
  - name: key-auth
services:
  - name: ai-service
    url: ${{ env "DECK_UPSTREAM" }}
    plugins:
      - name: ai-proxy
        config: {auth: {header_value: "Bearer ${{ env "DECK_KEY" }}"}}
    routes:
      - name: ai-chat
        plugins:
          - name: tallyman
            protocols: [http, https]
            config:
              api_token: ${{ env "DECK_TALLYMAN_KEY" }}
              source: ${{ env "DECK_SOURCE" }}
              split_cached_tokens: ${{ env "DECK_SPLIT" | toBool }}
              attributes:
                - {source: header, look_up_value_in: X-Team, event_property_name: team}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "kong.yaml"
    path.write_text(text)
    return path


def test_a_deck_file_with_variables_gives_the_plugins_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, GATEWAY)

    usage = load_usage_configuration(path, {"DECK_SOURCE": "gw-1", "DECK_SPLIT": "true"})

    assert usage == UsageConfiguration(
        source="gw-1", split_cached_tokens=True, attributes=(Attribute("x-team", "team"),)
    )


def test_a_variable_that_decides_an_event_must_be_set_and_a_secret_need_not(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"depends on DECK_SOURCE, which is not set"):
        load_usage_configuration(write(tmp_path, GATEWAY), {"DECK_SPLIT": "false"})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("plugins: [{name: tallyman, config: {source: eu}}]", id="top level"),
        pytest.param(
            "services: [{name: s, plugins: [{name: tallyman, config: {source: eu}}]}]",
            id="under a service",
        ),
        pytest.param(
            "routes: [{name: r, plugins: [{name: tallyman, config: {source: eu}}]}]",
            id="under a route",
        ),
        pytest.param(
            "consumers: [{username: c, plugins: [{name: tallyman, config: {source: eu}}]}]",
            id="under a consumer",
        ),
        pytest.param(
            "_plugin_configs: {t: {source: eu}}\nplugins: [{name: tallyman, _config: t}]",
            id="by a shared configuration",
        ),
        pytest.param(
            "plugins: [{name: tallyman, config: {source: eu}}]\n"
            "routes: [{plugins: [{name: tallyman, config: {source: eu, timeout: 5}}]}]",
            id="twice, alike in what counts",
        ),
        pytest.param(
            "plugins: [{name: tallyman, config: {source: eu}},"
            " {name: tallyman, enabled: false, config: {source: us}}]",
            id="beside a disabled one",
        ),
        pytest.param('{"data": [{"name": "tallyman", "config": {"source": "eu"}}]}', id="of Kong"),
        pytest.param("source: eu", id="a plain mapping"),
        pytest.param('{"source": "eu", "kafka": {"brokers": ["b:9092"]}}', id="plain JSON"),
    ],
)
def test_the_plugin_is_found_wherever_it_stands(tmp_path: Path, text: str) -> None:
    assert load_usage_configuration(write(tmp_path, text), {}) == UsageConfiguration(source="eu")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "plugins: [{name: tallyman, config: {source: eu}}]\n"
            "routes: [{name: r, plugins: [{name: tallyman, config: {source: us}}]}]",
            r"the plugins plugins\[0\], routes\[r\]\.plugins\[0\] disagree on source",
            id="two that disagree",
        ),
        pytest.param("_format_version: '3.0'", "has no enabled plugin tallyman", id="no plugin"),
        pytest.param("sorce: eu", "the plugin has no field sorce", id="a slip of the pen"),
        pytest.param("failed_calls: often", "failed_calls must be one of", id="a wrong value"),
        pytest.param(
            "plugins: [{name: tallyman, config: {subject: {field: no}}}]",
            r"plugins\[0\]: subject\.field must be one of",
            id="a wrong value in a deck file",
        ),
        pytest.param("subject: 5", "kong.yaml: ", id="a wrong shape"),
        pytest.param("attributes: 5", "kong.yaml: ", id="another wrong shape"),
        pytest.param("- 1", "is not a mapping", id="a list"),
        pytest.param("a: b: c", "is not YAML or JSON", id="no YAML"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_with_the_reason(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_usage_configuration(write(tmp_path, text), {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml cannot be read"):
        load_usage_configuration(tmp_path / "none.yaml")
