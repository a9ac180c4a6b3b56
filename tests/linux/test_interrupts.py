"""Linux's own count of interrupts against the machine's, with everything busy at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.linux.conftest import Guest
from vmlab.virtio import Console, Disk, Nic, Rng
from vmlab.virtio.device import VirtioDevice

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Boot = Callable[..., Guest]
#: in the box two take minutes to boot on a busy host
CPUS = {"soft": 2, "kvm": 1}
#: of uncached reads, writes and whatever else there is, at once
ROUND = (
    "echo 3 > /proc/sys/vm/drop_caches; for i in 0 1 2; do"
    " (dd if=/dev/vda of=/dev/null bs=4k skip=$((i * 600)) count=20 2>/dev/null) &"
    " (dd if=/dev/zero of=/dev/vdb bs=4k seek=$((i * 600)) count=20 conv=fsync 2>/dev/null) & done;"
    " (dd if=/dev/hwrng of=/dev/null bs=512 count=4 2>/dev/null) & (echo hello >/dev/hvc0) & wait"
)


def told(guest: Guest) -> dict[int, tuple[int, str]]:
    """Line -> (interrupts on all CPUs, trigger) of the virtio devices, as Linux sees them."""
    found = {}
    for row in guest.run("cat /proc/interrupts").splitlines():
        if match := re.match(
            r"\s*\d+:((?:\s+\d+)+)\s+IO-APIC\s+(\d+)-(edge|fasteoi)\s+.*virtio", row
        ):
            counts, line, trigger = match.groups()
            found[int(line)] = (sum(map(int, counts.split())), trigger)
    return found


def at_rest(guest: Guest) -> tuple[dict[int, tuple[int, str]], dict[int, int]]:
    """What Linux has counted and what was raised, with nothing between the two looks: the kernel asks for
    entropy by itself."""
    before: dict[int, int] = {}
    for _ in range(20):
        counts = told(guest)
        raised = {row.line: row.raised for row in guest.vm.irqs if row.line in counts}
        if raised == before:
            break
        before = raised
    return counts, raised


def rounds(guest: Guest, seconds: float) -> None:
    guest.run("for d in a b; do echo 0 >/sys/block/vd$d/queue/read_ahead_kb; done")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        guest.run(ROUND, timeout=60)  # a lost interrupt is a request that never ends


def devices() -> dict[str, VirtioDevice]:
    return {
        "a": Disk(size="8M"),
        "b": Disk(size="8M"),
        "rng": Rng(),
        "nic": Nic(),
        "con": Console(),
    }


@pytest.mark.engines("soft", "kvm")
def test_edges_are_counted_as_they_are_raised(boot: Boot, linux_engine: str) -> None:
    """One holder a line: every rise is an interrupt, and none is lost."""
    guest = boot(cpus=CPUS[linux_engine], devices=devices())
    rounds(guest, 8)
    counts, raised = at_rest(guest)
    assert counts == {line: (count, "edge") for line, count in raised.items()}
    assert counts.keys() >= {5, 6, 7}
    assert raised[5] > 20
    assert guest.complaints() == ""


@pytest.mark.engines("soft", "kvm")
def test_a_line_that_is_shared_loses_nothing(boot: Boot, linux_engine: str) -> None:
    """Levels: of several devices' interrupts at once the kernel may see one, and serves them all."""
    guest = boot(cpus=CPUS[linux_engine])
    for id, device in devices().items():
        guest.vm.hot_add(device, id, irq=19, wait=60)
        guest.reach(id, "driver_ok", timeout=60)
    rounds(guest, 8)
    count, trigger = told(guest)[19]
    row = next(row for row in guest.vm.irqs if row.line == 19)
    assert (trigger, row.device, row.level) == ("fasteoi", "a, b, rng, nic, con", False)
    assert count > 50
    assert row.raised >= count // 2
    assert guest.complaints() == ""
    # (all of dmesg on a serial line takes the box minutes)
    assert guest.run("dmesg | grep -c 'nobody cared'") == "0"


def test_64_slots(boot: Boot) -> None:
    guest = boot(cpus=1, devices=[Rng(seed=n) for n in range(40)])
    assert guest.run("ls /sys/bus/virtio/devices | wc -l") == "40"
    for number in range(40, 64):
        guest.add(Rng(seed=number), f"late{number}")
    assert guest.run("ls /sys/bus/virtio/devices | wc -l") == "64"
    lines = told(guest)
    assert set(lines) == {*range(5, 16), *range(17, 22)}
    assert all(
        trigger == ("edge" if line < 16 else "fasteoi") for line, (_, trigger) in lines.items()
    )
    assert (
        guest.run("dd if=/dev/hwrng of=/dev/null bs=16 count=1 2>&1 | tail -n 1")
        == "1+0 records out"
    )
    assert guest.complaints() == ""
