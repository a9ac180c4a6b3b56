"""Stock arm64 kernels: Debian's, which takes devices by ACPI, and libkrun's, which does by its device
tree."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.linux.conftest import PROMPT, Guest, fetched
from tests.linux.test_interrupts import devices, rounds
from tests.support import require_module
from tests.waiting import until
from vmlab import VM
from vmlab.linux.kernel import LinuxKernel
from vmlab.virtio import Disk, Rng

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.arm64_kvm
def test_on_kvm() -> None:
    """In the arm64 box, where all is slow, the same things once."""
    kernel = fetched("debian", "arm64")
    with VM(kernel, engine="kvm", devices={"a": Disk(size="1M")}) as vm:
        vm.console.expect("# ", timeout=200)
        run = partial(vm.console.run, prompt=PROMPT, timeout=60)
        assert run("cat /sys/block/vda/size") == "2048"
        vm.hot_add(Disk(size="2M"), "b", wait=60)
        until(lambda: vm.devices["b"].state == "driver_ok", "its driver", 60)
        assert run("cat /sys/block/vdb/size") == "4096"
        assert "GICv3" in run("cat /proc/interrupts")
        assert vm.shutdown(100).reason == "poweroff"


@pytest.fixture(scope="module", params=["debian", "krun"])
def kernel(request: pytest.FixtureRequest) -> LinuxKernel:
    require_module("unicorn")
    return fetched(request.param, "arm64")


@pytest.fixture(scope="module")
def debian_arm64() -> LinuxKernel:
    require_module("unicorn")
    return fetched("debian", "arm64")


Boot = Callable[..., Guest]


@pytest.fixture
def started() -> Iterator[Boot]:
    made: list[VM] = []

    def start(kernel: LinuxKernel, **options: object) -> Guest:
        vm = VM(kernel, **options)  # type: ignore[arg-type]
        made.append(vm)
        return Guest(vm)

    yield start
    for vm in made:
        vm.stop()


def told(guest: Guest) -> dict[int, tuple[int, str]]:
    """INTID -> (interrupts on all CPUs, trigger) of the virtio devices, as Linux sees them."""
    found = {}
    for row in guest.run("cat /proc/interrupts").splitlines():
        if match := re.match(
            r"\s*\d+:((?:\s+\d+)+)\s+GICv?-?\S*\s+(\d+)\s+(Edge|Level)\s+virtio", row
        ):
            counts, line, trigger = match.groups()
            found[int(line)] = (sum(map(int, counts.split())), trigger)
    return found


@pytest.mark.parametrize(("cpus", "gic"), [(1, 2), (2, 2), (4, 3)])
def test_it_boots_and_takes_devices_while_it_runs(
    started: Boot, kernel: LinuxKernel, cpus: int, gic: int
) -> None:
    guest = started(kernel, cpus=cpus, gic=gic, devices={"a": Disk(size="2M")})
    vm = guest.vm
    assert vm.config.arch == "arm64"
    assert guest.run("uname -m") == "aarch64"
    assert guest.run("nproc") == str(cpus)
    assert guest.run("cat /sys/block/vda/size") == "4096"
    assert abs(int(guest.run("date +%s")) - time.time()) < 60, "the host's time"
    began = time.monotonic()
    guest.add(Disk(size="1M"), "b")
    assert time.monotonic() - began < 10
    guest.add(Rng(), "rng")
    assert guest.run("head -c 16 /dev/hwrng | wc -c") == "16"
    for _ in range(2):
        assert guest.run("cat /sys/block/vdb/size") == "2048"
        vm.hot_remove("b")
        assert guest.run("ls /dev/vdb 2>/dev/null") == ""
        guest.add(Disk(size="1M"), "b")
    lines = {row.device: row.line for row in vm.irqs}
    assert (lines["a"], lines["b"], lines["rng"]) == (35, 36, 37)
    assert guest.complaints() == ""
    ended = vm.shutdown(60)
    assert (ended.reason, ended.code) == ("poweroff", 0)


def test_reboot_and_poweroff(started: Boot, kernel: LinuxKernel) -> None:
    guest = started(kernel)
    guest.vm.console.send("reboot -f\n")
    guest.vm.console.expect("# ", timeout=90)
    assert guest.run("echo again") == "again"
    guest.vm.console.send("poweroff -f\n")
    ended = guest.vm.wait(60)
    assert ended is not None
    assert ended.reason == "poweroff"


def test_every_interrupt_that_is_raised_is_taken(started: Boot, debian_arm64: LinuxKernel) -> None:
    """Edges, everything busy at once on two CPUs."""
    guest = started(debian_arm64, cpus=2, devices=devices())
    rounds(guest, 8)
    for _ in range(20):
        counts = {line: count for line, (count, _) in told(guest).items()}
        raised = {row.line: row.raised for row in guest.vm.irqs if row.line in counts}
        if counts == raised:
            break
    assert counts == raised
    assert {trigger for _, trigger in told(guest).values()} == {"Edge"}
    assert counts.keys() >= {35, 36, 37}
    assert counts[35] > 20
    assert guest.complaints() == ""


def test_a_taken_out_disk_under_load(started: Boot, debian_arm64: LinuxKernel) -> None:
    guest = started(debian_arm64, devices={"a": Disk(size="4M")})
    guest.vm.console.send("dd if=/dev/vda of=/dev/null bs=4k & sleep 0\n")
    guest.vm.hot_remove("a", force=True)
    guest.vm.console.expect(PROMPT, timeout=60)
    # with the answer the shell may tell that dd is done
    assert "alive" in guest.run("echo alive").splitlines()
    guest.add(Disk(size="3M"), "a")
    assert guest.run("cat /sys/block/vd?/size").endswith("6144")


def test_early_messages(debian_arm64: LinuxKernel) -> None:
    """The console is named to the kernel: by earlycon, as libkrun's manager does."""
    with VM(debian_arm64) as vm:
        assert "acpi=force" not in vm.config.cmdline
        vm.console.expect("# ", timeout=90)
        line = vm.console.run("cat /proc/cmdline", prompt=PROMPT)
        assert line.endswith("acpi=force earlycon=pl011,mmio32,0x0a001000")


def test_with_a_device_tree_alone(started: Boot, debian_arm64: LinuxKernel) -> None:
    """The same kernel told not to look for ACPI finds everything that was there from the start."""
    guest = started(debian_arm64, cmdline="acpi=off", devices={"a": Disk(size="2M")})
    assert guest.run("ls /sys/firmware/devicetree/base/psci/method") != ""
    assert guest.run("cat /sys/block/vda/size") == "4096"
    assert told(guest)[35][1] == "Edge"
    assert "rtc-pl031" in guest.run("cat /sys/class/rtc/*/name")
    assert guest.complaints() == ""
