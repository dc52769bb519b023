"""Holds the Dockerfiles to the project: what they copy is there, and they do not run as root."""

import re
import shlex
from pathlib import Path

import pytest

from tests.unit.compose.composed import ROOT, services

BUILT = sorted(
    {service["build"]["dockerfile"] for service in services().values() if "build" in service}
)


def instructions(dockerfile: str) -> list[list[str]]:
    text = (ROOT / dockerfile).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [shlex.split(line) for line in lines]


def copied(dockerfile: str) -> list[str]:
    return [
        path
        for keyword, *rest in instructions(dockerfile)
        if keyword == "COPY" and not any(word.startswith("--from") for word in rest)
        for path in [word for word in rest if not word.startswith("--")][:-1]
    ]


@pytest.mark.parametrize("dockerfile", BUILT)
def test_every_copied_path_is_in_the_project(dockerfile: str) -> None:
    paths = copied(dockerfile)

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("dockerfile", BUILT)
def test_every_copied_path_reaches_the_builder(dockerfile: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}

    assert {Path(path).parts[0] for path in copied(dockerfile)} <= allowed


@pytest.mark.parametrize("dockerfile", BUILT)
def test_the_image_does_not_run_as_root(dockerfile: str) -> None:
    users = [rest[0] for keyword, *rest in instructions(dockerfile) if keyword == "USER"]

    assert users
    assert users[-1] not in ("root", "0")


@pytest.mark.parametrize("dockerfile", BUILT)
def test_the_image_has_the_pinned_versions(dockerfile: str) -> None:
    installs = [
        line
        for line in (ROOT / dockerfile).read_text().replace("\\\n", " ").splitlines()
        if "pip install" in line
    ]

    assert installs
    assert all(re.search(r"-c \S*constraints\.txt", line) for line in installs)


@pytest.mark.parametrize("dockerfile", BUILT)
def test_what_is_built_from_the_project_has_the_hook_that_pyproject_names(dockerfile: str) -> None:
    paths = copied(dockerfile)

    assert ("hatch_build.py" in paths) == ("pyproject.toml" in paths)


def test_the_collectors_image_has_the_compiled_reader_and_the_plugins_has_none() -> None:
    crate = "collector/event_reader"

    assert crate in copied("collector/Dockerfile")
    assert any("cargo" in line for line in instructions("collector/Dockerfile"))
    assert not any(crate.startswith(path) for path in copied("plugin/Dockerfile"))


def test_what_was_compiled_here_does_not_reach_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert {"**/*.so", "collector/event_reader/target"} <= set(lines[lines.index("!collector") :])


def test_kongs_user_may_write_to_the_plugin_servers_socket() -> None:
    settings = dict(
        word.split("=", 1)
        for keyword, *rest in instructions("plugin/Dockerfile")
        if keyword == "ENV"
        for word in rest
    )

    assert settings["TALLYMAN_KONG_SOCKET_MODE"] == "666"  # Kong's image has another user
