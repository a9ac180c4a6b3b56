"""A card on the host's own network, in a network namespace that nobody else sees."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from vmlab.core.host import Host
from vmlab.errors import ConfigError
from vmlab.net.tap import TUNSETIFF, open_tap
from vmlab.virtio import Nic

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TAP interfaces are Linux's")

#: what a process of its own does in a namespace of its own; 77: not permitted here
IN_NAMESPACE = r"""
import ctypes, fcntl, os, socket, struct, sys, time
CLONE_NEWUSER, CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x10000000, 0x40000000, 0x8914, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(CLONE_NEWNET) and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
    print(f"no network namespace here: {os.strerror(ctypes.get_errno())}")
    sys.exit(77)
from vmlab.errors import ConfigError
from vmlab.testing import Driver
from vmlab.virtio import Nic
try:
    driver = Driver(Nic(tap="vmlab0", mac="02:00:00:00:00:01"))
except ConfigError as error:
    print(error)
    sys.exit(77)
with driver:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, SIOCSIFFLAGS, struct.pack("16sH22x", b"vmlab0", IFF_UP))
    for _ in range(16):
        driver.submit(0, in_=1526, kick=False)
    driver.kick(0)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    wire.bind(("vmlab0", 0))
    wire.settimeout(5)
    me, other = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
    sent = [other + me + b"\x88\xb5" + bytes([n]) * 60 for n in range(10)]
    for one in sent:
        driver.request(1, out=bytes(12) + one)
    assert [wire.recv(2000) for _ in sent] == sent
    for one in sent:
        wire.send(me + other + one[12:])
    got = []
    while len(got) < len(sent):
        data = driver.collect(0)[0].result[12:]
        driver.submit(0, in_=1526)
        if data[12:14] == b"\x88\xb5":
            got.append(data)
    assert got == [me + other + one[12:] for one in sent]
    wire.close()
    shown = driver.device.inspect()
    assert shown["link"] == "up" and shown["backend"] == "tap vmlab0", shown
    assert shown["tx_frames"] == 10, shown
    try:
        Driver(Nic(tap="vmlab0"))
    except ConfigError as error:
        assert "somebody else has the interface open" in str(error), error
    else:
        raise AssertionError("two cards on one interface")
    try:
        Driver(Nic(tap="lo"))
    except ConfigError as error:
        assert "is no TAP" in str(error), error
    else:
        raise AssertionError("lo is no TAP")
print("done")
"""


def test_frames_pass_through_an_interface() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_NAMESPACE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip(f"TAP not permitted here: {done.stdout.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "done\n"


class Refusing(Host):
    """A host that says no."""

    def __init__(self, code: int, at: str) -> None:
        self.code, self.at = code, at

    def open(self, path: str) -> int:
        if self.at == "open":
            raise OSError(self.code, os.strerror(self.code))
        return os.open("/dev/null", os.O_RDWR)

    def ioctl(self, fd: int, request: int, argument: object = 0) -> int:
        assert request == TUNSETIFF == 0x4004_54CA
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("at", ["open", "ioctl"])
@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EPERM, "ip tuntap add dev vmlab0 mode tap"),
        (errno.EACCES, "ip tuntap add dev vmlab0 mode tap"),
        (errno.ENOENT, "modprobe tun"),
        (errno.EBUSY, "somebody else"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.usefixtures("no_leaks")
def test_refusals_say_what_to_do(code: int, hint: str, at: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        open_tap("vmlab0", Refusing(code, at))


@pytest.mark.parametrize("name", ["", "x" * 16, "a/b", "a b", "tap%d"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match="no name of an interface"):
        Nic(tap=name)


def test_elsewhere_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigError, match="Linux"):
        Nic(tap="vmlab0")
