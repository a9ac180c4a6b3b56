"""A log is connected to everything of a machine when it begins, and to nothing when it has ended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import kernel_image
from vmlab import VM, Device, Registers
from vmlab.core.counters import CounterPage
from vmlab.core.device import on_write
from vmlab.core.memory import GuestMemory
from vmlab.core.trace import TraceFilter
from vmlab.machine.config import MachineConfig
from vmlab.machine.machine import Machine
from vmlab.regs import rw

PATIENCE = 30.0


class Wired(Device):
    """Its line is up while LEVEL is not 0."""

    class regs(Registers):
        LEVEL = rw(0, "the line's")

    @on_write("LEVEL")
    def level(self, value: int) -> None:
        self.r.LEVEL = value

    def irq_level(self) -> bool:
        return bool(self.r.LEVEL)


def taps(machine: Machine) -> list[Any]:
    """What stands where a log would listen."""
    manager = machine.device_manager
    lines = [one.device.irq for one in manager.devices.values()]
    return [
        *(bus.read for bus in (machine.mmio, machine.ports)),
        *(bus.write for bus in (machine.mmio, machine.ports)),
        *(getattr(line, "_sink", None) for line in lines),
        *(machine._serial.sink, manager.on_output, manager.watcher, machine._tracing),
    ]


@pytest.mark.parametrize(
    "wanted", [TraceFilter(), TraceFilter(kinds=frozenset({"irq"})), TraceFilter(frozenset({"d"}))]
)
def test_after_a_log_everything_is_as_before(engine: str, wanted: TraceFilter) -> None:
    config = MachineConfig(str(kernel_image("monitor")), memory=32 << 20, engine=engine)
    machine = Machine(config, GuestMemory.allocate(32 << 20), CounterPage())
    try:
        machine.hot_add(Wired(), "d")
        before = taps(machine)
        for _ in range(2):
            machine.trace(True, 10, wanted)
            machine.trace(True, 10, wanted)
            assert taps(machine) != before
            machine.trace(False)
            assert taps(machine) == before
    finally:
        machine.close()


def test_who_drives_a_line_that_two_devices_share(engine: str) -> None:
    with VM("monitor", engine=engine) as vm:
        vm.console.expect("vmlab> ", PATIENCE)
        one, other = vm.hot_add(Wired(), id="one", irq=20), vm.hot_add(Wired(), id="other", irq=20)
        with vm.trace(kinds=("raise", "lower")) as log:
            for at, level in ((other, 1), (one, 1), (other, 0), (one, 0), (one, 1)):
                vm.console.run(f"poke {at.base:#x} {level}", timeout=PATIENCE)
        edges = [(event.kind, event.device) for event in log if event.line == 20]
    # the wire rises with the first and falls with the last
    assert edges == [("raise", "other"), ("lower", "other"), ("raise", "one")]


def test_the_order_of_each_cpu(engine: str) -> None:
    with VM("monitor", engine=engine, cpus=2) as vm:
        vm.console.expect("vmlab> ", PATIENCE)
        vm.hot_add(Wired(), id="d")
        vm.console.run("smp 2", timeout=PATIENCE)
        vm.pause()
        # mov ecx, 300; mov ebx, 0xd0000000; 1: mov [rbx], ecx; dec ecx; jnz 1b; 2: hlt; jmp 2b
        code = bytes.fromhex("b92c010000 bb000000d0 890b ffc9 75fa f4 ebfd")
        vm.memory.write(0x30_0000, code)
        for cpu in vm.cpus:
            cpu.set(rip=0x30_0000, rflags=2)
        with vm.trace(device="d", kinds="write") as log:
            vm.resume()
            vm.wait_until(lambda v: v.traps["d"].writes >= 600, PATIENCE)
    assert [event.time for event in log] == sorted(event.time for event in log)
    for number in (0, 1):
        assert [event.value for event in log if event.cpu == number] == list(range(300, 0, -1))
    assert len(log) == 600


def test_console_bytes_are_those_that_were_written(engine: str) -> None:
    with VM("smp", engine=engine, cpus=2).start(paused=True) as vm:
        log = vm.trace(last=100_000)
        vm.resume()
        vm.wait(PATIENCE)
        events = log.events
    said = "".join(event.text for event in events if event.kind == "output")
    sent = [event.value for event in events if (event.register, event.kind) == ("THR", "write")]
    assert said == bytes(value or 0 for value in sent).decode()
