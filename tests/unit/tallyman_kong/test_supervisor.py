"""The supervisor with processes that a test has written: what it does when they, or it, go wrong."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tallyman_kong import supervisor
from tallyman_kong.settings import Settings, settings

from tests.rigs.plugin import until

WAITS = "cat > /dev/null"
Program = Callable[[str], None]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "program"))
    spool = str(tmp_path / "spool.db")
    return settings({"prefix": str(tmp_path), "spool": spool, "metrics": "off"})


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes the program that both processes run; its third argument says which of them it is."""

    def write(lines: str) -> None:
        partial = tmp_path / "partial"
        partial.write_text(f"#!/bin/sh\ncd {tmp_path}\n{lines}\n")
        partial.chmod(0o755)
        partial.rename(tmp_path / "program")

    return write


async def test_a_process_that_cannot_be_started_is_tried_again(
    given: Settings, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    child = supervisor.Child("server", given)
    running = asyncio.create_task(child.run())

    await until(lambda: child.restarts >= 2)
    program(WAITS)
    await until(lambda: child.runs)

    assert "the server could not be started" in caplog.text
    await child.stop()
    await running


async def test_a_process_that_is_just_being_started_is_stopped(
    given: Settings, program: Program
) -> None:
    program(WAITS)
    child = supervisor.Child("server", given)
    running = asyncio.create_task(child.run())
    await asyncio.sleep(0)

    await child.stop()

    await asyncio.wait_for(running, 10)
    assert not child.runs


async def test_half_a_line_of_a_server_that_was_killed_is_passed_over(
    given: Settings, program: Program, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    program(
        """[ "$3" = sender ] && exec cat > told
        [ -e once ] || { touch once; printf \'{"name": "si\'; exit 1; }
        echo \'{"name": "sink"}\'; cat > /dev/null"""
    )
    running = asyncio.create_task(supervisor._run(given))

    await until(lambda: running.done() or (told.exists() and told.read_text().endswith("}\n")))
    os.kill(os.getpid(), signal.SIGTERM)

    assert await running is True
    assert told.read_text() == '{"name": "sink"}\n'


async def test_a_supervisor_of_which_a_part_fails_ends_with_its_processes(
    given: Settings, program: Program, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program(f"[ $3 = server ] && echo '[]'\n{WAITS}\ntouch $3-ended")

    ended_well = await asyncio.wait_for(supervisor._run(given), 20)

    assert ended_well is False
    assert "a part of the supervisor ended" in caplog.text
    assert (tmp_path / "server-ended").exists()
    assert (tmp_path / "sender-ended").exists()
