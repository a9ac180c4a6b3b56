"""Linux on KVM alone: more than one CPU, the host's clock, and the pace of its exits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.linux.conftest import Guest
from vmlab.virtio import Disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.engines("kvm")]

Boot = Callable[..., Guest]
PAUSE = 5.0
LOOKS = ("VIRTIO", "LINE")
CLOCKS = "/sys/devices/system/clocksource/clocksource0"


def test_two_cpus_work(boot: Boot) -> None:
    guest = boot(cpus=2, devices=[Disk(size="1M")])
    assert guest.run("nproc") == "2"
    guest.run("for n in 0 1; do taskset $((1 << n)) seq 100000 >/dev/null & done; wait")
    table = guest.run("cat /proc/interrupts")
    assert re.search(r"CPU0\s+CPU1", table)
    local = re.search(r"LOC: +(\d+) +(\d+)", table)
    assert local is not None
    assert all(int(ticks) > 10 for ticks in local.groups())
    assert guest.complaints() == ""


def test_the_exits_of_its_boot_and_its_clock_which_stands_still_in_a_pause(boot: Boot) -> None:
    guest = boot()
    exits = guest.vm.exits
    assert exits.keys() <= {"io", "mmio", "intr"}
    assert 100 < exits["io"] < 1000
    # four looks at each of the 64 slots' _STA, and one at its line
    assert exits["mmio"] == sum(guest.vm.traps["hotplug"].registers[name].reads for name in LOOKS)
    assert exits["mmio"] <= 5 * 64
    assert guest.run(f"cat {CLOCKS}/current_clocksource") == "kvm-clock"
    assert float(guest.run("date +%s")) == pytest.approx(time.time(), abs=3)
    before, began = uptime(guest), time.monotonic()
    guest.vm.pause()
    time.sleep(PAUSE)
    guest.vm.resume()
    passed, took = uptime(guest) - before, time.monotonic() - began
    assert passed == pytest.approx(took - PAUSE, abs=1)
    assert guest.complaints() == ""


def uptime(guest: Guest) -> float:
    return float(guest.run("cut -d' ' -f1 /proc/uptime"))
