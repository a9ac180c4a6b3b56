"""The monitor's side of hot-plug, in vmlab's own machine: the same on both engines."""

from __future__ import annotations

import concurrent.futures
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vms import PATIENCE, PROMPT, Dice
from tests.waiting import until
from vmlab import VM, Device, virtio
from vmlab.errors import StateError
from vmlab.virtio import Disk, Rng
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Chain

FIRST = "0xd0000000 irq 5"


class Silent(Rng):
    """Takes requests and never answers."""

    def process(self, index: int) -> bool:
        return False


class Weak(Rng):
    """Breaks down once."""

    def handle(self, index: int, chain: Chain) -> int:
        if not self.bytes_given:
            self.bytes_given = 1
            raise ZeroDivisionError("the author was tired")
        return super().handle(index, chain)


class Strange(VirtioDevice):
    """A kind that the monitor has no driver for."""

    type, device_id, queue_sizes = "virtio-strange", 42, (16,)


class Shape(VirtioDevice):
    """Nothing but a configuration space."""

    queue_sizes = (16, 16)

    def __init__(self, features: int, config: bytes) -> None:
        self.features, self.space = features, config

    def process(self, index: int) -> bool:
        return False

    def read_config(self, offset: int, size: int) -> int:
        return int.from_bytes(self.space[offset : offset + size], "little")

    def become(self, config: bytes) -> None:
        self.space = config
        self.transport.config_changed()


class ShapeOfCard(Shape):
    device_id = 1


class ShapeOfDisk(Shape):
    device_id = 2


class ShapeOfConsole(Shape):
    device_id = 3


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with VM(kernel="monitor", engine=engine, isolate=False) as machine:
        machine.console.expect(PROMPT, timeout=PATIENCE)
        yield machine


def says(vm: VM, line: str) -> None:
    vm.console.expect(re.escape(line) + "\n" + PROMPT, timeout=PATIENCE)


def ask(vm: VM, command: str) -> str:
    """The monitor's answer, without the echo and the next prompt."""
    vm.console.send(command + "\r")
    match = vm.console.expect(rf"{re.escape(command)}\n((?:.*\n)*?)" + PROMPT, timeout=PATIENCE)
    answer: str = match[1]
    return answer


def plug_rng(vm: VM) -> str:
    view = vm.hot_add(Rng(seed=7))
    until(lambda: vm.devices[view.id].state == "driver_ok")
    says(vm, f"hot-plug: slot 0: rng at {FIRST}")
    return str(view.id)


def test_added_used_and_released(vm: VM) -> None:
    assert ask(vm, "rng 4") == "rng: no such device\n"
    id = plug_rng(vm)
    answer = ask(vm, "rng 16")
    assert re.fullmatch(r"([0-9a-f]{2} ){15}[0-9a-f]{2}\n", answer)
    devices = ask(vm, "devices")
    assert "0xcf001000  irq 1  hot-plug controller\n" in devices
    assert devices.endswith(
        "0xd0000000  irq 5  slot 0: rng, driver ok\n1 of 64 slots in use\n",
    )
    vm.hot_remove(id)
    says(vm, "hot-plug: slot 0: released")
    assert ask(vm, "devices").endswith("\n0 of 64 slots in use\n")
    assert ask(vm, "rng 4") == "rng: no such device\n"
    plug_rng(vm)
    assert ask(vm, "rng 16") == answer, "the same seed"


def test_one_notification_and_one_interrupt_a_request(vm: VM) -> None:
    id = plug_rng(vm)

    def counted() -> tuple[int, int, int]:
        line = next(row for row in vm.irqs if row.line == 5)
        snapshot = vm.traps[id]
        return snapshot.kicks, line.raised, snapshot.reads + snapshot.writes

    before = counted()
    assert "65536 bytes in 1 request, sum 0x" in ask(vm, "rng 65536")
    after = counted()
    assert [now - then for now, then in zip(after, before, strict=True)][:2] == [1, 1]


def test_cold(engine: str) -> None:
    devices: list[Device | VirtioDevice] = [Rng(seed=1), Dice()]
    with VM(kernel="monitor", engine=engine, isolate=False, devices=devices) as vm:
        match = vm.console.expect(rf"(?s)(.*){PROMPT}", timeout=PATIENCE)
        assert match[1].splitlines()[1:] == [
            f"hot-plug: slot 0: rng at {FIRST}",
            "hot-plug: slot 1: device at 0xd0001000",
        ]
        first = ask(vm, "rng 8")
        vm.reset()
        vm.console.expect(rf"slot 1: device at 0xd0001000\n{PROMPT}", timeout=PATIENCE)
        assert len(ask(vm, "rng 8")) == len(first)


def test_devices_without_a_driver(vm: VM) -> None:
    dice = vm.hot_add(Dice())
    until(lambda: vm.devices[dice.id].state == "driver_ok")
    says(vm, "hot-plug: slot 0: device at 0xd0000000")
    assert ask(vm, "peek 0xd0000000 4 2") == "0xd0000000: 0x00000001 0x00000006\n", "nobody rolled"
    strange = vm.hot_add(Strange())
    until(lambda: vm.devices[strange.id].state == "failed")
    says(vm, "hot-plug: slot 1: virtio device at 0xd0001000 irq 5: no driver")
    assert "slot 1: virtio device, failed\n" in ask(vm, "devices")
    vm.hot_remove(dice.id)
    says(vm, "hot-plug: slot 0: released")


def test_what_is_half_typed_is_kept(vm: VM) -> None:
    vm.console.send("rng ")
    vm.console.expect("rng $", timeout=PATIENCE)
    vm.hot_add(Rng(seed=7))
    line = f"^\nhot-plug: slot 0: rng at {FIRST}\nvmlab> rng $"
    vm.console.expect(line, timeout=PATIENCE)
    vm.console.send("1\r")
    vm.console.expect(rf"1\n[0-9a-f]{{2}}\n{PROMPT}", timeout=PATIENCE)


def test_a_surprise_removal(vm: VM) -> None:
    id = plug_rng(vm)
    vm.hot_remove(id, force=True)
    says(vm, "hot-plug: slot 0: gone")
    plug_rng(vm)
    assert ask(vm, "rng 1")


def test_changes_wait_while_a_command_runs(vm: VM) -> None:
    vm.console.send("spin\r")
    vm.console.expect("spinning until a key\n", timeout=PATIENCE)
    vm.hot_add(Rng(seed=7))
    vm.console.send("x")
    says(vm, f"hot-plug: slot 0: rng at {FIRST}")
    vm.console.send("halt\r")
    vm.console.expect("halted until a key\n", timeout=PATIENCE)
    vm.hot_add(Dice())
    vm.console.expect("^hot-plug: slot 1: device at 0xd0001000\n$", timeout=PATIENCE)
    vm.console.send("x")
    vm.console.expect(PROMPT, timeout=PATIENCE)


def test_a_device_that_never_answers(vm: VM) -> None:
    vm.hot_add(Silent())
    says(vm, f"hot-plug: slot 0: rng at {FIRST}")
    assert ask(vm, "rng 4") == "rng: timeout\n"
    vm.console.send("rng 4\r\x03")
    vm.console.expect(rf"rng 4\nrng: stopped\n{PROMPT}", timeout=PATIENCE)
    assert "rng, driver ok" in ask(vm, "devices")


def test_a_device_that_needs_a_reset(vm: VM) -> None:
    vm.hot_add(Weak())
    says(vm, f"hot-plug: slot 0: rng at {FIRST}")
    assert ask(vm, "rng 4") == "rng: device needs reset\n"
    assert re.fullmatch(r"([0-9a-f]{2} ?){4}\n", ask(vm, "rng 4"))


def test_a_device_that_needs_a_reset_while_nobody_asks(vm: VM) -> None:
    device = Rng()
    id = vm.hot_add(device).id
    says(vm, f"hot-plug: slot 0: rng at {FIRST}")
    device.transport.needs_reset("it is tired")
    says(vm, "rng: device needs reset")
    until(lambda: vm.devices[id].state == "driver_ok")
    assert ask(vm, "rng 1")


def test_a_disk_that_grows(vm: VM) -> None:
    disk = ShapeOfDisk(0, struct.pack("<Q", 64))
    vm.hot_add(disk)
    says(vm, f"hot-plug: slot 0: blk at {FIRST}")
    disk.become(struct.pack("<Q", 1 << 40))
    says(vm, f"blk: {1 << 40} sectors")
    assert ask(vm, "blk") == f"blk: {1 << 40} sectors\n"
    for verb in ("flush", "discard 0 1", "zero 0 1"):
        assert ask(vm, f"blk {verb}") == "blk: the device does not offer that\n"


def test_a_cable_that_is_pulled(vm: VM) -> None:
    mac = bytes.fromhex("525400123456")
    card = ShapeOfCard(1 << 5 | 1 << 16, mac + b"\1\0")
    vm.hot_add(card)
    says(vm, f"hot-plug: slot 0: net at {FIRST}")
    card.become(mac + b"\0\0")
    says(vm, "net: link down")
    assert "mac 52:54:00:12:34:56, link down, no ip" in ask(vm, "net")
    card.become(mac + b"\1\0")
    says(vm, "net: link up")


def test_a_terminal_that_is_resized(vm: VM) -> None:
    console = ShapeOfConsole(1, struct.pack("<HH", 80, 25))
    vm.hot_add(console)
    says(vm, f"hot-plug: slot 0: con at {FIRST}")
    assert ask(vm, "con") == "con: 80 columns, 25 rows\n"
    console.become(struct.pack("<HH", 132, 43))
    says(vm, "con: 132 columns, 43 rows")


def test_a_disk(vm: VM, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"first" + bytes((1 << 20) - 5))
    vm.hot_add(Disk(image))
    says(vm, f"hot-plug: slot 0: blk at {FIRST}")
    assert "66 69 72 73 74 00" in ask(vm, "blk read 0")
    assert ask(vm, "blk write 2047 the end") == "blk: written\n"
    assert ask(vm, "blk flush") == "blk: flushed\n"
    assert image.read_bytes()[-512:].rstrip(b"\0") == b"the end"


def test_two_guests_ping_each_other(engine: str) -> None:
    counts = []
    with virtio.Switch() as switch:
        one = VM(kernel="monitor", engine=engine, devices=[virtio.Nic(switch)])
        two = VM(kernel="monitor", engine=engine, devices=[virtio.Nic(switch)])
        with one, two:
            for last, vm in enumerate((one, two), 1):
                vm.console.expect(PROMPT, timeout=PATIENCE)
                assert ask(vm, f"net ip 10.0.0.{last}") == ""
            assert ask(one, "net ping 10.0.0.2 3").endswith("net: 3 of 3 answered\n")
            assert ask(two, "net ping 10.0.0.1") == "net: 10.0.0.1 ping 1: answered\n"
            for vm in (one, two):
                assert ask(vm, "net").endswith(", 5 received, 5 sent\n")
                counts.append((vm.traps["nic0"].reads, vm.traps["nic0"].writes))
    assert counts[0] == counts[1], "each has seen as many frames"


def test_every_line_can_have_a_device(vm: VM) -> None:
    for slot in range(11):
        vm.hot_add(Rng(seed=slot))
        says(vm, f"hot-plug: slot {slot}: rng at 0xd000{slot:x}000 irq {5 + slot}")
    for slot in range(11, 64):
        vm.hot_add(Rng(seed=slot))
        says(vm, f"hot-plug: slot {slot}: rng at 0xd00{slot:02x}000 irq {17 + (slot - 11) % 5}")
    answers = {ask(vm, f"rng 8 {unit}") for unit in range(64)}
    assert len(answers) == 64
    assert {row.line for row in vm.irqs if not row.level} == {
        1,
        3,
        4,
        16,
        *range(5, 16),
        *range(17, 22),
    }
    assert "rng at 0xd000b000" in ask(vm, "irqs")
    vm.hot_remove("rng11")
    says(vm, "hot-plug: slot 11: released")
    assert ask(vm, "rng 8 16") != ask(vm, "rng 8 21"), "the others on its line go on"
    vm.hot_remove("rng3")
    says(vm, "hot-plug: slot 3: released")
    assert ask(vm, "rng 8 3") == "rng: no such device\n"
    assert ask(vm, "rng 8 4") != ask(vm, "rng 8 5")


def test_a_guest_that_does_not_answer_holds_up_nobody_else(vm: VM) -> None:
    id = plug_rng(vm)
    vm.console.send("spin\n")  # it serves no hot-plug meanwhile
    vm.console.expect("until a key", PATIENCE)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        removal = pool.submit(vm.hot_remove, id)
        until(lambda: vm.devices[id].state == "removing")
        began = time.monotonic()
        assert vm.devices["com1"].peek("IER") == 1
        with pytest.raises(StateError, match="being removed already"):
            vm.hot_remove(id)
        vm.console.send("x")
        assert not removal.done() or time.monotonic() - began < 2
        vm.console.expect(PROMPT, PATIENCE)
        removal.result(PATIENCE)
        assert time.monotonic() - began < 4, "the guest answered, and nobody waited for longer"
    assert id not in vm.devices


def test_nothing_is_left_of_many_rounds(vm: VM) -> None:
    for _ in range(100):
        vm.hot_add(Rng(seed=7), id="it")
        until(lambda: vm.devices["it"].state == "driver_ok")
        vm.hot_remove("it")
    plug_rng(vm)
    assert ask(vm, "rng 4")
