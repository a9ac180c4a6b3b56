"""A stock Debian kernel for RISC-V, which finds its devices by the device tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.linux.conftest import Guest, fetched
from tests.support import require_module
from vmlab import VM
from vmlab.linux.kernel import LinuxKernel
from vmlab.virtio import Console, Disk, Nic, Rng

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def kernel() -> LinuxKernel:
    require_module("unicorn")
    return fetched("debian", "riscv64")


Boot = Callable[..., Guest]


@pytest.fixture
def started(kernel: LinuxKernel) -> Iterator[Boot]:
    made: list[VM] = []

    def start(**options: object) -> Guest:
        vm = VM(kernel, **options)  # type: ignore[arg-type]
        made.append(vm)
        return Guest(vm)

    yield start
    for vm in made:
        vm.stop()


@pytest.mark.parametrize(("machine", "cpus"), [("virt", 1), ("virt", 2), ("krun", 1)])
def test_it_boots_and_takes_devices_while_it_runs(started: Boot, machine: str, cpus: int) -> None:
    guest = started(machine=machine, cpus=cpus, devices={"a": Disk(size="2M"), "net": Nic()})
    vm = guest.vm
    assert (vm.config.arch, vm.machine) == ("riscv64", machine)
    assert guest.run("uname -m") == "riscv64"
    assert guest.run("nproc") == str(cpus)
    assert guest.run("cat /sys/block/vda/size") == "4096"
    assert abs(int(guest.run("date +%s")) - time.time()) < 60, "the host's time"
    assert guest.run("cat /sys/class/net/eth0/address").count(":") == 5
    guest.run("echo written | dd of=/dev/vda conv=fsync 2>/dev/null")
    assert guest.run("head -c 7 /dev/vda") == "written"
    guest.add(Rng(), "rng")
    assert guest.run("head -c 16 /dev/hwrng | wc -c") == "16"
    guest.add(Console(), "con")
    for _ in range(2):
        guest.add(Disk(size="1M"), "b")
        assert guest.run("cat /sys/block/vdb/size") == "2048"
        vm.hot_remove("b")
        assert guest.run("ls /dev/vdb 2>/dev/null") == ""
    assert guest.complaints() == ""
    ended = vm.shutdown(60)
    assert (ended.reason, ended.code) == ("poweroff", 0)


def test_all_eight_transports(started: Boot) -> None:
    guest = started(devices=[Disk(size="1M") for _ in range(8)])
    assert guest.run("ls -d /sys/block/vd? | wc -l") == "8"


def test_reboot_and_poweroff(started: Boot) -> None:
    guest = started()
    guest.vm.console.send("reboot -f\n")
    guest.vm.console.expect("# ", timeout=90)
    assert guest.run("echo again") == "again"
    guest.vm.console.send("poweroff -f\n")
    ended = guest.vm.wait(60)
    assert ended is not None
    assert ended.reason == "poweroff"


def test_every_interrupt_that_is_raised_is_taken(started: Boot) -> None:
    guest = started(devices={"a": Disk(size="4M")})
    for _ in range(10):
        guest.run("dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null")
    line = next(row for row in guest.vm.irqs if row.device == "a")
    told = guest.run(f"grep 'PLIC *{line.line} ' /proc/interrupts").split()
    raised = next(row.raised for row in guest.vm.irqs if row.device == "a")
    assert int(told[1]) == raised > 100


def test_over_opensbi(started: Boot) -> None:
    firmware = "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin"
    if not Path(firmware).exists():
        pytest.skip(f"there is no {firmware}")
    guest = started(firmware=firmware, cpus=2)
    assert "OpenSBI" in guest.vm.console.text
    assert guest.run("nproc") == "2"
    assert "SBI implementation ID=0x1 " in guest.run("dmesg | grep implementation")
    assert guest.vm.shutdown(60).reason == "poweroff"
