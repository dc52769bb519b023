"""Holds docker-compose.yml to what Compose, Kong and the settings of our own parts ask for.

It starts no container: no Docker engine is at hand where this is developed.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tallyman.config import Settings, variable_of
from tallyman_kong.settings import OPTIONS

from tests.unit.compose.composed import ROOT, TEXT, environment, services, variables

ONE_SHOT = sorted(name for name, service in services().items() if service.get("restart") == "no")
LASTING = sorted(services().keys() - set(ONE_SHOT))
NOT_USED = ("the-mock-needs-none", "kafka-needs-none")
COLLECTORS = sorted(
    name for name, service in services().items() if "collector" in service.get("image", "")
)


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_stays_has_a_health_check_and_is_started_again(name: str) -> None:
    service = services()[name]

    assert "test" in service["healthcheck"]
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(services()))
def test_what_a_service_waits_for_is_there_and_can_come_true(name: str) -> None:
    for other, needs in services()[name].get("depends_on", {}).items():
        can_be = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert needs == {"condition": can_be}, other


def test_every_volume_is_declared_and_used() -> None:
    used = {
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "/"))
    }

    assert used == yaml.safe_load(TEXT)["volumes"].keys()


def test_every_mounted_file_is_in_the_project() -> None:
    mounted = [
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]

    assert mounted
    assert [path for path in mounted if not (ROOT / path).is_file()] == []


def test_no_port_is_open_to_other_machines() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_no_password_is_in_the_file() -> None:
    for name in services():
        for variable, value in environment(name).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|_KEY$", variable):
                is_none = not value or value in NOT_USED
                assert is_none or value.startswith("secret-of-"), f"{name}: {variable}"
            for password in re.findall(r"://[^/:@]*:([^@]*)@", value):
                assert password.startswith("secret-of-"), f"{name}: {variable}"


def test_env_example_names_every_secret_and_holds_none() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert {name for name, value in named.items() if not value} == variables()


@pytest.mark.parametrize("name", COLLECTORS)
def test_the_collector_knows_every_setting_that_it_is_given(name: str) -> None:
    given = {variable for variable in environment(name) if variable.startswith("TALLYMAN_")}

    assert given
    assert given - {variable_of(setting) for setting in Settings.model_fields} == set()


def test_the_plugin_server_knows_every_setting_that_it_is_given() -> None:
    given = {key for key in environment("tallyman-plugin") if key.startswith("TALLYMAN_")}

    assert given
    assert given - {option.variable for option in OPTIONS} == set()


def test_kong_finds_the_plugin_server_where_it_serves() -> None:
    kong = environment("kong")
    prefix = next(option.default for option in OPTIONS if option.name == "prefix")

    assert kong["KONG_PLUGINS"].split(",") == ["bundled", "tallyman"]
    assert kong["KONG_PLUGINSERVER_NAMES"] == "tallyman"
    assert kong["KONG_PLUGINSERVER_TALLYMAN_SOCKET"] == f"{prefix}/tallyman.sock"
    assert kong["KONG_PLUGINSERVER_TALLYMAN_QUERY_CMD"] == f"cat {prefix}/tallyman.json"
    assert f"plugin-socket:{prefix}:ro" in services()["kong"]["volumes"]
    assert f"plugin-socket:{prefix}" in services()["tallyman-plugin"]["volumes"]


def test_kong_does_not_start_the_plugin_server_itself_since_deck_would_fail() -> None:
    assert not [name for name in environment("kong") if name.endswith("_START_CMD")]


def test_deck_is_given_every_variable_that_the_gateways_file_asks_for() -> None:
    gateway = (ROOT / "deck" / "kong.yaml").read_text()
    asked = set(re.findall(r'\$\{\{ *env "(\w+)" *\}\}', gateway))

    assert asked
    assert asked - environment("deck").keys() == set()


def test_every_service_that_is_spoken_to_is_there_on_the_port_that_it_has() -> None:
    """In the environment of each service: `name:port` of another."""
    ports = {"mock-provider": "8090", "kafka": "9092", "kong": "8001", "collector": "8888"}
    ports |= {"postgres": "5432", "clickhouse": "8123"}

    for name in services():
        for variable, value in environment(name).items():
            for host, port in re.findall(r"(?:://|@|^)([a-z-]+):(\d+)", value):
                if not (name == "kafka" == host):  # its own listeners
                    assert ports.get(host) == port, f"{name}: {variable}"


def test_the_spool_outlives_the_plugin_servers_container() -> None:
    spool = next(option.default for option in OPTIONS if option.name == "spool")
    mounted = [volume.split(":")[1] for volume in services()["tallyman-plugin"]["volumes"]]

    assert spool.rpartition("/")[0] in mounted


def test_the_deployments_page_names_every_service_image_and_port() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", page, flags=re.MULTILINE))

    assert rows.keys() == services().keys()
    for name, service in services().items():
        source = service["build"]["dockerfile"] if "build" in service else service["image"]
        assert rows[name] in ("the same", source, f"`{source}`"), name
        for port in service.get("ports", []):
            assert port.split(":")[1] in page


def test_docker_compose_itself_takes_the_file(tmp_path: Path) -> None:
    has_compose = shutil.which("docker") and not docker_compose("version").returncode
    if not has_compose:
        pytest.skip("the Docker client here has no `compose`")
    secrets = tmp_path / "secrets"
    secrets.write_text("".join(f"{name}=abc\n" for name in variables()))

    with_all = docker_compose("--env-file", str(secrets), "config", "--quiet")
    without = docker_compose("--env-file", os.devnull, "config", "--quiet")

    assert (with_all.returncode, with_all.stderr) == (0, "")
    assert without.returncode != 0
    assert "make env" in without.stderr


def docker_compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", *arguments],
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
    )
