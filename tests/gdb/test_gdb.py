"""A real gdb at work on the monitor kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.gdb.lab import RealGdb
from tests.support import kernel_image, require_kvm, require_module, require_program
from vmlab import VM

pytestmark = pytest.mark.usefixtures("no_leaks")
Pair = tuple[VM, RealGdb]
_WHERE = {"x86_64": ("com1", "serial_put", "rip"), "arm64": ("serial", "serial_put", "pc")}
#: seconds of the issue: 1,000 single steps
_STEPS = 5.0


@pytest.fixture(params=[("soft", "x86_64"), ("kvm", "x86_64"), ("soft", "arm64")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    require_program("gdb-multiarch")
    engine, arch = request.param
    require_kvm() if engine == "kvm" else require_module("unicorn")
    with VM("monitor", engine=engine, arch=arch) as vm:
        vm.console.expect("vmlab> ")
        with vm.gdb() as server, RealGdb(server.address, vm.config.kernel) as gdb:
            yield vm, gdb


def test_it_breaks_and_goes_on(pair: Pair) -> None:
    vm, gdb = pair
    vm.wait_until(lambda v: v.state == "paused")  # gdb may be told before the VM
    gdb.run("break serial_put")
    vm.console.send("a")
    said = gdb.run("continue")
    assert "Breakpoint 1" in said
    assert "in serial_put" in said
    vm.wait_until(lambda v: v.state == "paused" and "breakpoint" in v.state.reason)
    gdb.run("delete")
    gdb.begin("continue")
    vm.wait_until(lambda v: v.state == "running")
    vm.console.send("\nhelp\n")
    vm.console.expect("disks")
    gdb.interrupt()
    assert "SIGINT" in gdb.answer()


def test_registers_and_memory_are_the_guests(pair: Pair) -> None:
    vm, gdb = pair
    counter = _WHERE[vm.config.arch][2]
    assert gdb.value(f"${counter}") == vm.cpus[0].regs[counter]
    start = gdb.value("(unsigned long)&main")
    assert gdb.value("*(unsigned int*)&main") == int.from_bytes(vm.memory.read(start, 4), "little")
    at = gdb.value("$sp") - 512
    gdb.run(f"set var *(unsigned int*){at:#x} = 0x12345678")
    assert vm.memory.read(at, 4) == bytes.fromhex("78563412")
    name = "rax" if vm.config.arch == "x86_64" else "x5"
    gdb.run(f"set var ${name} = 0x1122334455667788")
    assert vm.cpus[0].regs[name] == 0x1122334455667788
    assert "Cannot access memory" in gdb.run("x/1x 0x700000000000")


def test_it_finishes_and_steps_over(pair: Pair) -> None:
    vm, gdb = pair
    gdb.run("break serial_put")
    vm.console.send("a")
    gdb.run("continue")
    gdb.run("delete")
    counter = f"${_WHERE[vm.config.arch][2]}"
    before = gdb.value(counter)
    gdb.run("stepi")
    assert gdb.value(counter) != before
    first = gdb.run("info symbol " + counter)
    gdb.run("nexti")
    assert "serial_put" in first


def test_a_watchpoint_on_a_devices_window(pair: Pair) -> None:
    vm, gdb = pair
    base = vm.devices["hotplug"].base
    assert "atchpoint" in gdb.run(f"awatch *(unsigned int*){base:#x}")
    vm.console.send(f"peek {base:#x}\n")
    reads = vm.traps["hotplug"].reads
    said = gdb.run("continue")
    assert "(read/write) watchpoint" in said
    assert vm.state.met is not None
    assert (vm.state.met.device, vm.state.met.owner) == ("hotplug", "gdb")
    # gdb steps over the access before it says so: it has been performed, once
    assert vm.traps["hotplug"].reads - reads <= 1
    gdb.run("delete")
    gdb.begin("continue")
    vm.wait_until(lambda v: v.state == "running")
    vm.console.expect("vmlab> ")
    assert vm.traps["hotplug"].reads - reads >= 1


def test_the_monitor_commands(pair: Pair) -> None:
    vm, gdb = pair
    assert "hot-plug" in gdb.run("monitor devices")
    assert "raised" in gdb.run("monitor irqs")
    assert "reads" in gdb.run("monitor traps")
    assert "rng0 is plugged in" in gdb.run("monitor hot-add rng")
    assert "rng0" in vm.devices
    assert "did you mean 'devices'" in gdb.run("monitor device")
    assert "monitor hot-add" in gdb.run("monitor help")
    gdb.run("monitor trace on")
    gdb.run("break serial_put")
    vm.console.send("a")
    gdb.run("continue")
    assert "read" in gdb.run("monitor trace")


def test_kill_stops_the_machine(pair: Pair) -> None:
    vm, gdb = pair
    gdb.run("kill")
    assert vm.wait(5) is not None
    assert vm.state == "stopped"


@pytest.mark.parametrize("way", ["detach", "vanish"])
def test_when_gdb_is_gone_the_guest_goes_on(pair: Pair, way: str) -> None:
    vm, gdb = pair
    gdb.run("break serial_put")
    vm.console.send("a")
    gdb.run("continue")
    gdb.run("detach") if way == "detach" else gdb.vanish()
    vm.wait_until(lambda v: v.state == "running")
    assert len(vm.breakpoints) == 0
    vm.console.send("\nhelp\n")
    vm.console.expect("disks")


def test_a_thousand_steps_take_seconds(pair: Pair) -> None:
    vm, gdb = pair
    # not where it waits for a key: a halted CPU is given time for an interrupt at each step
    gdb.run("break serial_put")
    vm.console.send("help\n")
    gdb.run("continue")
    gdb.run("delete")
    began = time.monotonic()
    gdb.run("stepi 1000")
    assert time.monotonic() - began < 2 * _STEPS  # the figure, and room for a busy machine


def test_a_breakpoint_of_python_stops_gdb_too(pair: Pair) -> None:
    vm, gdb = pair
    device, _, counter = _WHERE[vm.config.arch]
    register = "THR" if vm.config.arch == "x86_64" else "DR"
    made = vm.break_on(f"{device}.{register}")
    vm.console.send("a")
    said = gdb.run("continue")
    assert f"{device}.{register}" in said
    assert "SIGTRAP" in said
    writes = vm.traps[device].registers[register].writes
    before = gdb.value(f"${counter}")
    gdb.run("stepi")
    assert vm.traps[device].registers[register].writes == writes + 1
    assert gdb.value(f"${counter}") >= before
    made.delete()


def test_it_waits_at_the_first_instruction() -> None:
    require_program("gdb-multiarch")
    vm = VM("hello", engine="soft")
    try:
        vm.start(paused=True)
        with vm.gdb() as server, RealGdb(server.address, str(kernel_image("hello"))) as gdb:
            assert gdb.value("$rip") == vm.cpus[0].regs["rip"]
            gdb.run("break main")
            assert "Breakpoint 1" in gdb.run("continue")
    finally:
        vm.stop()
