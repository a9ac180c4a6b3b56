"""A stock Debian kernel in software: it boots, takes devices while it runs, lets them go, and ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.linux.conftest import BOOT, Guest
from tests.linux.timing import hot_add_to_read
from vmlab.errors import EngineUnavailable, StateError
from vmlab.linux.kernel import LinuxKernel
from vmlab.virtio import Console, Disk, Nic, Rng, Switch
from vmlab.vm import VM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Boot = Callable[..., Guest]
BOTH = pytest.mark.engines("soft", "kvm")


@BOTH
def test_it_boots_quietly_with_its_disk(boot: Boot) -> None:
    guest = boot(devices=[Disk(size="8M")])
    assert guest.vm.console.text.startswith("\n\nBusyBox")
    assert guest.run("cat /sys/block/vda/size") == "16384"
    guest.run("echo vmlab > /dev/vda")
    assert guest.run("sync; head -c 5 /dev/vda") == "vmlab"
    # the serial line by its FIFO: two exits a byte at most
    guest.run("head -c 4000 /dev/zero | tr '\\0' x > /tmp/long")
    before, shown = guest.vm.exits["io"], len(guest.vm.console.data)
    guest.run("cat /tmp/long")
    assert guest.vm.exits["io"] - before < 2 * (len(guest.vm.console.data) - shown)
    assert guest.complaints() == ""


def test_interrupts_are_those_of_the_tables(boot: Boot) -> None:
    guest = boot(devices=[Disk(size="1M")])
    table = guest.run("cat /proc/interrupts")
    assert re.search(r"IO-APIC +1-fasteoi +ACPI:Ged", table)
    assert re.search(r"IO-APIC +4-edge +ttyS0", table)
    assert re.search(r"IO-APIC +5-edge +virtio0", table)
    assert (
        guest.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") == "tsc"
    )


def test_its_clock_is_right(boot: Boot) -> None:
    guest = boot()
    began, first = time.monotonic(), float(guest.run("cut -d' ' -f1 /proc/uptime"))
    time.sleep(2)
    took, passed = time.monotonic() - began, float(guest.run("cut -d' ' -f1 /proc/uptime")) - first
    assert passed == pytest.approx(took, rel=0.2, abs=0.5)


@BOTH
def test_each_kind_of_device_hot_added_and_used(boot: Boot) -> None:
    guest = boot()
    vm = guest.vm
    guest.add(Rng(), "rng")
    assert guest.run("head -c 16 /dev/hwrng | wc -c") == "16"
    began = time.monotonic()
    guest.add(Disk(size="4M"), "disk")
    assert guest.run("head -c 4 /dev/vda | wc -c") == "4"
    assert time.monotonic() - began < 5
    guest.add(Console(), "hvc")
    guest.run("echo from the guest > /dev/hvc0")
    vm.consoles["hvc"].expect("from the guest")
    assert guest.vm.irqs
    assert guest.complaints() == ""


@BOTH
def test_its_shell_on_a_virtio_console(debian: LinuxKernel, linux_engine: str) -> None:
    with VM(debian, engine=linux_engine, devices=[Console()], cmdline="console=hvc0") as vm:
        console = vm.consoles["console0"]
        console.expect("# ", timeout=BOOT)
        assert console.run("tty; stty size") == "/dev/hvc0\n50 200"
        vm.devices["console0"].resize(132, 43)
        console.run("sleep 0.1")
        assert console.run("stty size") == "43 132"
        # both are the kernel's consoles, and the serial line is free for something else
        console.run("echo 'what the kernel says' > /dev/kmsg; echo 'and a program' > /dev/ttyS0")
        vm.console.expect("and a program")
        console.send("exit\n")
        ended = vm.wait(30)
        assert ended is not None
        assert ended.reason == "poweroff"


@BOTH
def test_two_guests_talk_over_cards_that_came_later(boot: Boot) -> None:
    first, second = boot(), boot()
    switch = Switch()
    try:
        for number, guest in enumerate((first, second), 1):
            guest.add(Nic(switch))
            guest.run(f"ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up")
        assert "3 packets received" in first.run("ping -c 3 -W 5 10.0.0.2")
        second.run("nc -l -p 5000 >/tmp/came &")
        sent = first.run(
            "head -c 500000 /dev/urandom >/tmp/goes; nc 10.0.0.2 5000 </tmp/goes; sha256sum </tmp/goes"
        )
        assert re.fullmatch(r"[0-9a-f]{64}  -", sent)
        assert sent in second.run("wait; sha256sum </tmp/came")
    finally:
        getattr(switch, "close", lambda: None)()


def test_fifty_rounds_of_adding_and_removing(boot: Boot) -> None:
    guest = boot()
    free = int(guest.run("awk '/MemFree/ {print $2}' /proc/meminfo"))
    for number in range(50):
        if number % 5:
            guest.add(Disk(size="1M"), "d")
        else:
            hot_add_to_read(guest.vm, guest.vm.console, "d")  # benchmarks/linux.py has how long
        guest.vm.hot_remove("d")
    assert guest.run("ls /dev/vd* 2>/dev/null") == ""
    assert guest.complaints() == ""
    left = int(guest.run("awk '/MemFree/ {print $2}' /proc/meminfo"))
    assert free - left < 8192, "kB of memory that did not come back"


@BOTH
def test_another_kind_of_device_in_a_slot_that_was_left(boot: Boot) -> None:
    guest = boot()
    for _ in range(2):
        # a command that follows at once finds the device
        guest.vm.hot_add(Disk(size="1M"), "x")
        assert guest.run("head -c 4 /dev/vda | wc -c") == "4"
        guest.vm.hot_remove("x")
    guest.vm.hot_add(Rng(), "x")
    assert guest.run("head -c 8 /dev/hwrng | wc -c") == "8"
    assert guest.vm.devices["x"].irq == 5
    guest.vm.replace("x", Rng(seed=7))
    guest.reach("x", "driver_ok")
    assert guest.run("head -c 8 /dev/hwrng | wc -c") == "8"
    assert guest.vm.devices["x"].peek()["seed"] == 7


def test_a_disk_pulled_out_under_its_file_system(boot: Boot) -> None:
    guest = boot()
    guest.add(Disk(size="4M"), "d")
    guest.run("mke2fs -q /dev/vda >/dev/null; mount -t ext4 /dev/vda /mnt; echo old >/mnt/a; sync")
    guest.run("while echo new >/mnt/b && sync /mnt/b; do :; done 2>/dev/null &")
    guest.vm.hot_remove("d", force=True)
    # who uses it fails, and nobody waits; the driver goes, and the window serves again
    guest.run("sync; wait; umount /mnt")
    guest.vm.wait_until(lambda vm: vm.traps["hotplug"].registers["ANSWER"].writes, timeout=30)
    guest.add(Disk(size="2M"), "e")
    assert guest.vm.devices["e"].base == 0xD000_0000
    assert guest.run("cat /sys/block/vd?/size") == "4096"
    assert guest.complaints() == ""


@BOTH
def test_added_while_it_still_boots(debian: LinuxKernel, linux_engine: str) -> None:
    with VM(debian, engine=linux_engine) as vm:
        ids = []
        for n in range(6):
            time.sleep(0.3)
            ids.append(vm.hot_add(Rng() if n % 2 else Disk(size="1M"), wait=0).id)
        vm.console.expect("# ", timeout=BOOT)
        end = time.monotonic() + 20
        while time.monotonic() < end and any(vm.devices[i].state != "driver_ok" for i in ids):
            time.sleep(0.05)
        assert [vm.devices[i].state for i in ids] == ["driver_ok"] * 6


def test_a_guest_whose_user_space_does_not_help(boot: Boot) -> None:
    guest = boot()
    guest.run("kill $(pidof uevent)")
    guest.add(Disk(size="1M"), "d")
    with pytest.raises(StateError, match="it has no sectors now"):
        guest.vm.hot_remove("d")
    assert guest.run("cat /sys/block/vda/size") == "0"
    guest.vm.devices["d"].resize()
    assert guest.run("cat /sys/block/vda/size") == "2048"


def test_a_driver_unbound_by_hand_is_consent(boot: Boot) -> None:
    guest = boot()
    guest.run("kill $(pidof uevent)")
    guest.add(Rng(), "r")
    guest.run("(sleep 1; echo LNRO0005:00 > /sys/bus/platform/drivers/virtio-mmio/unbind) &")
    guest.vm.hot_remove("r")
    assert "r" not in guest.vm.devices
    # nothing would bind a driver there again: the next device goes elsewhere
    guest.add(Disk(size="1M"), "d")
    assert guest.vm.devices["d"].base == 0xD000_1000
    guest.vm.hot_remove("d", force=True)
    guest.run("head -c 512 /dev/vda; sync")
    guest.add(Disk(size="2M"), "e")
    assert guest.vm.devices["e"].base == 0xD000_2000
    guest.run("echo LNRO0005:01 > /sys/bus/platform/drivers/virtio-mmio/unbind")
    assert guest.run("cat /sys/block/vd?/size") == "4096"
    assert guest.complaints() == ""


@BOTH
@pytest.mark.parametrize("command", ["poweroff", "exit"])
def test_switched_off_from_inside(boot: Boot, command: str) -> None:
    guest = boot()
    guest.vm.console.send("echo begun; sleep 100\n")
    guest.vm.console.expect("\nbegun")
    time.sleep(0.5)
    guest.vm.console.send("\x03")
    guest.run("true")
    guest.vm.console.send(command + "\n")
    ended = guest.vm.wait(30)
    assert ended is not None
    assert (ended.reason, ended.code, str(guest.vm.state)) == ("poweroff", 0, "stopped")


@BOTH
def test_the_button(boot: Boot) -> None:
    guest = boot()
    assert guest.vm.shutdown().reason == "poweroff"


@BOTH
def test_reboot_starts_the_kernel_anew(boot: Boot) -> None:
    guest = boot()
    guest.run("touch /tmp/before")
    guest.vm.console.send("reboot\n")
    guest.vm.console.expect("BusyBox", timeout=BOOT)
    guest.vm.console.expect("# ", timeout=BOOT)
    assert guest.run("ls /tmp") == ""
    assert float(guest.run("cut -d' ' -f1 /proc/uptime")) < 60
    assert guest.vm.state == "running"


def test_a_kernel_and_initrd_of_ones_own(boot: Boot, debian: LinuxKernel) -> None:
    guest = boot(
        kernel=debian.kernel, initrd=debian.initrd, memory="192M", cmdline="console=ttyS0 quiet"
    )
    assert "tsc=reliable" in guest.run("cat /proc/cmdline")


@BOTH
def test_without_acpi(boot: Boot) -> None:
    guest = boot(cmdline="acpi=off noapic")
    assert "XT-PIC" in guest.run("cat /proc/interrupts")


def test_too_little_memory_is_said(debian: LinuxKernel) -> None:
    from vmlab.errors import KernelError

    with pytest.raises(
        KernelError, match=r"this guest's memory, .* ends at 0x2000000; give it more"
    ):
        VM(debian, memory="32M", engine="soft").start()


@pytest.mark.kvm
def test_auto_takes_an_engine_that_runs_it(boot: Boot, debian: LinuxKernel) -> None:
    from vmlab import engine

    works, _ = engine.runs_linux("kvm")
    guest = boot(engine="auto")
    assert guest.vm.engine == ("kvm" if works else "soft")
    if not works:
        with pytest.raises(EngineUnavailable, match="cannot run Linux here"):
            VM(debian, engine="kvm").start()
