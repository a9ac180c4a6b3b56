"""The disk under the monitor's driver, on both engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vms import PATIENCE, PROMPT
from vmlab import VM
from vmlab.catalogue import make
from vmlab.errors import ConfigError, MonitorLost, StateError
from vmlab.virtio import Disk

SIZE = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lab.img"
    path.write_bytes(b"first sector".ljust(SIZE, b"\0"))
    return path


@pytest.fixture
def vm(engine: str, image: Path) -> Iterator[VM]:
    with VM(kernel="monitor", engine=engine, devices=[Disk(image, serial="lab-1")]) as vm:
        vm.console.expect(PROMPT, timeout=PATIENCE)
        yield vm


def test_the_guest_reads_writes_and_flushes(vm: VM, image: Path) -> None:
    assert "first sector" in vm.console.run("blk read 0")
    assert "written" in vm.console.run("blk write 3 some text")
    assert "flushed" in vm.console.run("blk flush")
    assert "lab-1" in vm.console.run("blk id")
    assert "zeroed" in vm.console.run("blk zero 0 1")
    assert "discarded" in vm.console.run("blk discard 8 8")
    data = image.read_bytes()
    assert data[1536:1545] == b"some text"
    assert data[:512] == bytes(512)
    seen = vm.devices["disk0"].peek()
    assert (seen["writes"], seen["flushes"], seen["errors"]) == (1, 1, 0)


def test_the_disk_grows_under_the_guest(vm: VM, image: Path) -> None:
    assert vm.devices["disk0"].resize("2M") == 2 * SIZE
    vm.console.expect(r"blk: 4096 sectors", timeout=PATIENCE)
    assert "written" in vm.console.run("blk write 4095 the end")
    assert image.read_bytes()[-512:] == b"the end".ljust(512, b"\0")
    with pytest.raises(ConfigError, match="no size of a disk"):
        vm.tell("disk0", "resize", 100)


def test_a_killed_monitor_loses_no_flushed_write(vm: VM, image: Path) -> None:
    for number in range(20):
        assert "written" in vm.console.run(f"blk write {number} block {number}")
    assert "flushed" in vm.console.run("blk flush")
    pid = vm.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    vm.wait(PATIENCE)
    assert vm.state == "crashed"
    with pytest.raises((MonitorLost, StateError)):
        vm.console.run("blk")
    data = image.read_bytes()
    for number in range(20):
        text = f"block {number}".encode()
        assert data[512 * number : 512 * number + 512] == text.ljust(512, b"\0")
    # and the lock went with the process
    with VM(kernel="hello", engine=vm.engine, devices=[Disk(image)]):
        pass


def test_two_machines_and_one_image(vm: VM, image: Path, engine: str) -> None:
    other = VM(kernel="hello", engine=engine, devices=[Disk(image)])
    with pytest.raises(ConfigError, match="in use by another machine"):
        other.start()
    other.stop()
    vm.hot_remove("disk0")
    with VM(kernel="hello", engine=engine, devices=[Disk(image)]):
        pass


def test_from_the_command_line(engine: str, image: Path) -> None:
    spec = f"disk,path={image},readonly,serial=cli,id=lab"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "vmlab", "run", "monitor", "--engine", engine),
            *("--device", spec, "--device", "rng,seed=7", "--device", "console"),
            *("--timeout", "60"),
        ],
        input="blk id\nblk read 0\nblk write 0 no\nrng 4\nexit\n",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "'cli'" in done.stdout
    assert "first sector" in done.stdout
    assert "written" not in done.stdout
    assert image.read_bytes()[:12] == b"first sector"


def test_specs(image: Path) -> None:
    device, id = make(f"disk,path={image},rate=1M,iops=100,id=d")
    assert isinstance(device, Disk)
    assert (device.path, device.rate, device.iops, id) == (str(image), 1 << 20, 100, "d")
    device, _ = make("disk,size=16M,notify=trap")
    assert isinstance(device, Disk)
    assert device.notify == "trap"
    with pytest.raises(ConfigError, match="no option 'data'"):
        make("disk,data=xyz")
