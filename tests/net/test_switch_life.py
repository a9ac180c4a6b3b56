"""A switch's beginning and end: nothing is left of it, and nobody keeps it alive."""

from __future__ import annotations

import gc
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.frames import BROADCAST, frame, mac, soon
from vmlab.errors import ConfigError, StateError
from vmlab.net.stream import LENGTH, connect
from vmlab.virtio import Switch

pytestmark = pytest.mark.usefixtures("no_leaks")

A = mac(1)


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch() as one:
        yield one


def test_the_socket_is_private_and_goes_with_the_switch() -> None:
    switch = Switch()
    path = Path(switch.path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    station = connect(switch.path)
    switch.close()
    switch.close()
    assert station.recv(10) == b""
    station.close()
    assert not path.parent.exists()
    assert "closed" in repr(switch)
    for look in (lambda: switch.frames, lambda: switch.ports, switch.log):
        with pytest.raises(StateError, match="closed"):
            look()


def test_a_switch_that_nobody_holds_is_gone() -> None:
    switch = Switch()
    path = Path(switch.path)
    del switch
    gc.collect()
    assert not path.exists()


def test_a_fork_does_not_keep_the_switch_alive(switch: Switch) -> None:
    station = connect(switch.path)
    soon(lambda: switch.ports)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(go[1])
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.close(ready[1])
    os.read(ready[0], 1)
    switch.close()
    station.settimeout(2)
    assert station.recv(10) == b""
    os.close(go[1])
    os.waitpid(child, 0)
    os.close(ready[0])
    os.close(go[0])
    station.close()


def test_a_switch_does_not_travel(switch: Switch) -> None:
    with pytest.raises(ConfigError, match="stays in its process"):
        pickle.dumps(switch)


def test_closing_while_frames_fly(switch: Switch) -> None:
    stop = threading.Event()

    def shout() -> None:
        with connect(switch.path) as one:
            data = (LENGTH.pack(60) + frame(BROADCAST, A, size=60)) * 100
            try:
                while not stop.is_set():
                    one.sendall(data)
            except OSError:
                pass

    threads = [threading.Thread(target=shout) for _ in range(3)]
    for one in threads:
        one.start()
    time.sleep(0.1)
    switch.close()
    stop.set()
    for one in threads:
        one.join(5)
        assert not one.is_alive()


def test_a_descriptor_is_not_there_for_nothing(switch: Switch) -> None:
    """A connection that comes and goes at once leaves nothing behind."""
    for _ in range(50):
        one = socket.socket(socket.AF_UNIX)
        one.connect(switch.path)
        one.close()
    soon(lambda: not switch.ports)
