"""Switches that processes share by name: the first one hosts, the next one inherits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.frames import BROADCAST, frame, mac, soon
from tests.support import ROOT
from vmlab.catalogue import make
from vmlab.errors import ConfigError, StateError
from vmlab.net.rendezvous import run_directory
from vmlab.net.switch import shared
from vmlab.virtio import Nic, Switch

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


HOST = """
import sys, time
from vmlab.virtio import Switch
switch = Switch("lab")
echo = switch.attach(lambda data: echo.send(data[6:12] + data[:6] + data[12:]))
print(switch.hosting, echo.mac, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def host() -> Iterator[subprocess.Popen[str]]:
    """Another process that hosts "lab", with a port that echoes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True 02:56:4d:00:00:01\n"
        yield process
        process.kill()


def echoed(switch: Switch) -> bool:
    """Whether a frame comes back from the host's port."""
    answers: list[bytes] = []
    with switch.attach(answers.append) as port:
        port.send(frame(BROADCAST, mac(77), b"hello", 60))
        soon(lambda: answers)
    return answers == [frame(mac(77), BROADCAST, b"hello", 60)]


def test_the_second_process_connects(host: subprocess.Popen[str]) -> None:
    with Switch("lab") as switch:
        assert not switch.hosting
        assert echoed(switch)
        assert Nic(switch).inspect()["mac"] == "02:56:4d:00:00:03"  # the echo, our port, the card
        with pytest.raises(StateError, match=f"process {host.pid}"):
            switch.log()
        assert "hosted elsewhere" in repr(switch)
    assert host.poll() is None


def test_when_the_host_is_killed_another_takes_over(host: subprocess.Popen[str]) -> None:
    with Switch("lab") as switch:
        assert not switch.hosting
        host.send_signal(signal.SIGKILL)
        host.wait()
        soon(lambda: switch.hosting)
        assert switch.log() == []
        # the count goes on: the others' cards have their addresses already
        assert Nic(switch).inspect()["mac"] == "02:56:4d:00:00:02"


def test_a_dead_hosts_socket_is_replaced(host: subprocess.Popen[str]) -> None:
    host.kill()
    host.wait()
    with Switch("lab") as switch:
        assert switch.hosting
        assert Path(switch.path).is_socket()
        assert Nic(switch).inspect()["mac"] == "02:56:4d:00:00:01"
    assert not Path(switch.path).exists()


def test_the_end_of_a_guest_does_not_end_the_switch(host: subprocess.Popen[str]) -> None:
    Switch("lab").close()
    with Switch("lab") as switch:
        assert echoed(switch)


def test_a_cell_that_is_run_again() -> None:
    """The new switch waits until the old one is gone, in this process too."""
    switch = Switch("lab")
    old, switch = switch, Switch("lab")
    assert not switch.hosting
    old.close()
    soon(lambda: switch.hosting)
    switch.close()


def test_names_part_switches() -> None:
    with Switch("one") as one, Switch("two") as two:
        assert one.hosting
        assert two.hosting
        assert one.path != two.path


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "x" * 33, "ä", 5])
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(ConfigError, match="name is 1 to 32"):
        Switch(name)


def test_from_the_command_line() -> None:
    first, _ = make("net,switch=lab")
    second, _ = make("net,switch=lab")
    assert isinstance(first, Nic)
    assert isinstance(second, Nic)
    assert first.inspect()["backend"] == "switch lab"
    assert [one.inspect()["mac"][-2:] for one in (first, second)] == ["01", "02"]
    switch = shared("lab")
    assert switch.hosting
    switch.close()
    again = shared("lab")
    assert again.hosting
    again.close()


# --- permissions ----------------------------------------------------------------------------------


def test_the_directory_is_ours_alone(home: Path) -> None:
    assert run_directory() == home / "vmlab"
    assert (home / "vmlab").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_reach_is_refused(home: Path, mode: int) -> None:
    (home / "vmlab").mkdir()
    (home / "vmlab").chmod(mode)
    with pytest.raises(ConfigError, match="belongs to you alone"):
        Switch("lab")


def test_a_link_is_refused(home: Path) -> None:
    (home / "real").mkdir(0o700)
    (home / "vmlab").symlink_to("real")
    with pytest.raises(ConfigError, match="belongs to you alone"):
        Switch("lab")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make somebody else's directory")
def test_somebody_elses_directory_is_refused(home: Path) -> None:
    (home / "vmlab").mkdir(0o700)
    os.chown(home / "vmlab", 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to you alone"):
        Switch("lab")


def test_without_a_runtime_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_directory() == tmp_path / f"vmlab-{os.geteuid()}"


def test_what_is_no_directory(home: Path) -> None:
    (home / "vmlab").write_text("")
    with pytest.raises(ConfigError, match="cannot make"):
        Switch("lab")
