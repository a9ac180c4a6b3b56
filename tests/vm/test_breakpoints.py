"""Breakpoints of a machine, from Python, on each engine and architecture."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support import require_kvm, require_module
from vmlab import VM
from vmlab.errors import ConfigError, EngineError, ExpectTimeout, StateError, UnknownName
from vmlab.machine.debug.records import BreakEvent

_SERIAL = {"x86_64": ("com1", "THR", "rip", 4), "arm64": ("serial", "DR", "pc", 33)}
#: seconds that a stop may take to the notebook
_STOP = 0.02


@pytest.fixture(params=[("soft", "x86_64"), ("kvm", "x86_64"), ("soft", "arm64")], ids="-".join)
def vm(request: pytest.FixtureRequest) -> Iterator[VM]:
    engine, arch = request.param
    require_kvm() if engine == "kvm" else require_module("unicorn")
    with VM("monitor", engine=engine, arch=arch) as made:
        made.console.expect("vmlab> ")
        yield made


def _counter(vm: VM) -> int:
    return vm.cpus[0].regs[_SERIAL[vm.config.arch][2]]


def _on_output(vm: VM) -> tuple[str, str]:
    return _SERIAL[vm.config.arch][:2]


def test_an_access_stops_before_the_device_sees_it_and_is_counted_once(vm: VM) -> None:
    device, register = _on_output(vm)
    before = vm.traps[device].registers[register].writes
    made = vm.break_on(f"{device}.{register}")
    vm.console.send("a")
    stopped = vm.wait_for_break()
    assert stopped.breakpoint.number == made.number
    assert (stopped.event.device, stopped.event.register) == (device, register)
    assert stopped.event.value == ord("a")
    assert stopped.event.pc  # which instruction it is
    assert stopped.function.startswith("serial_")
    assert repr(stopped).endswith(f", in {stopped.function}>")
    assert vm.state == "paused"
    assert f"{device}.{register}" in vm.state.reason
    assert vm.traps[device].registers[register].writes == before
    assert made.hits == 1
    made.delete()
    assert len(vm.breakpoints) == 0
    vm.resume()
    vm.console.expect("a")
    assert vm.traps[device].registers[register].writes == before + 1


def test_values_counts_and_one_shots(vm: VM) -> None:
    device, register = _on_output(vm)
    name = f"{device}.{register}"
    third = vm.break_on(name, value=ord("x"), count=3)
    vm.console.send("axbxcxd")
    vm.wait_for_break()
    assert third.hits == 3
    third.delete()
    vm.resume()
    once = vm.break_on(name, once=True)
    vm.console.send("a")
    assert vm.wait_for_break().event.label == name
    vm.resume()
    vm.wait_until(lambda v: not len(v.breakpoints))
    assert "gone" in repr(once)


def test_a_condition_in_python(vm: VM) -> None:
    device, register = _on_output(vm)
    seen: list[BreakEvent] = []

    def when(event: BreakEvent) -> bool:
        seen.append(event)
        return event.value == ord("z")

    made = vm.break_on(f"{device}.{register}", when=when)
    vm.console.send("abz")
    assert vm.wait_for_break().event.value == ord("z")
    assert [one.value for one in seen] == [*b"abz"]
    assert made.hits == 1


@pytest.mark.parametrize("sort", ["raises", "stays"])
def test_a_condition_that_fails_is_taken_off_and_said(vm: VM, sort: str) -> None:
    device, register = _on_output(vm)

    def when(_: BreakEvent) -> bool:
        if sort == "raises":
            raise ZeroDivisionError
        time.sleep(1.5)
        return False

    vm.break_on(f"{device}.{register}", when=when)
    vm.console.send("a")
    vm.wait_for_break()
    words = "it raised ZeroDivisionError" if sort == "raises" else "it has not returned for 1 s"
    assert any(words in entry.text for entry in vm.log)
    vm.resume()
    vm.console.send("b")
    vm.wait_for_break()  # without a condition now


def test_code_is_met_before_each_execution(vm: VM) -> None:
    device, register = _on_output(vm)
    first = vm.break_on(f"{device}.{register}")
    vm.console.send("help\n")
    vm.wait_for_break()
    vm.step()
    at = _counter(vm)
    first.delete()
    made = vm.break_at(at)
    assert made.how == ("hardware" if vm.engine == "kvm" else "software")
    for hits in range(1, 4):
        vm.resume()
        assert vm.wait_for_break().event.pc == at == _counter(vm)
        assert made.hits == hits
    made.enabled = False
    vm.resume()
    vm.console.expect("vmlab> ")
    assert made.hits == 3


def test_more_code_than_debug_registers(vm: VM) -> None:
    device, register = _on_output(vm)
    first = vm.break_on(f"{device}.{register}")
    vm.console.send("help\n")
    vm.wait_for_break()
    vm.step()
    at = _counter(vm)
    first.delete()
    for n in range(1, 6):
        vm.break_at(at + n * 0x10_0000)
    made = vm.break_at(at)
    if vm.engine == "kvm":
        assert made.how in ("int3", "single-stepping")
    vm.resume()
    assert vm.wait_for_break(10).event.pc == at
    vm.resume()
    assert vm.wait_for_break(10).breakpoint.hits == 2


def test_memory_that_is_written(vm: VM) -> None:
    device, register = _on_output(vm)
    vm.break_on(f"{device}.{register}", once=True)
    vm.console.send("help\n")
    vm.wait_for_break()
    stack = vm.cpus[0].regs["rsp" if vm.config.arch == "x86_64" else "sp"]
    vm.step()
    try:
        made = vm.break_on_memory(stack - 64, 64 if vm.engine == "soft" else 8)
    except EngineError as error:
        assert vm.engine == "kvm"
        pytest.skip(str(error))
    vm.resume()
    event = vm.wait_for_break().event
    assert event.write
    assert stack - 80 < event.address < stack
    if vm.engine == "soft":
        assert event.value is not None
        written = vm.memory.read(event.address, event.size)
        assert int.from_bytes(written, "little") == event.value
    made.delete()
    vm.resume()
    vm.console.expect("vmlab> ")


def test_a_line_that_rises(vm: VM) -> None:
    device, _ = _on_output(vm)
    held = vm.devices[device].irq
    assert held is not None
    vm.break_on_irq(held)
    vm.console.send("a")
    assert f"interrupt line {held} rises" in repr(vm.wait_for_break())


def test_a_hole_in_the_map(vm: VM) -> None:
    hole = next(one for one in vm.address_map if one.kind == "hole" and one.size > 0x1000)
    made = vm.break_on(range(hole.start, hole.start + 16), read=True)
    vm.console.send(f"peek {hole.start + 8:#x}\n")
    event = vm.wait_for_break().event
    assert (event.device, event.address, event.write) == ("", hole.start + 8, False)
    made.delete()
    vm.resume()
    vm.console.expect("vmlab> ")


def test_a_notification_stops_though_it_would_not_trap(vm: VM) -> None:
    from vmlab.virtio import Rng

    vm.hot_add(Rng())
    made = vm.break_on("rng0.QueueNotify")
    vm.console.send("rng 16\n")
    assert vm.wait_for_break().event.register == "QueueNotify"
    made.delete()
    kicks = vm.traps["rng0"].kicks
    vm.resume()
    vm.console.expect("vmlab> ")
    vm.console.run("rng 16")
    assert vm.traps["rng0"].kicks > kicks


def test_a_reset_keeps_breakpoints(vm: VM) -> None:
    device, register = _on_output(vm)
    made = vm.break_on(f"{device}.{register}")
    vm.console.send("a")
    vm.wait_for_break()
    vm.reset()
    vm.resume()
    vm.wait_for_break()
    assert made.hits == 2


def test_what_cannot_be_is_said(vm: VM) -> None:
    device, _ = _on_output(vm)
    with pytest.raises(UnknownName, match=f"did you mean {device!r}"):
        vm.break_on(device[:-1] + "9")
    with pytest.raises(UnknownName, match="no register"):
        vm.break_on(f"{device}.NOPE")
    with pytest.raises(ConfigError, match="is RAM"):
        vm.break_on(vm.memory.regions[0].base + 0x10_0000)
    with pytest.raises(ConfigError, match="a function of the event"):
        vm.break_on(device, when=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="of a read there is none yet"):
        vm.break_on(device, read=True, write=False, value=3)
    with pytest.raises(ConfigError, match="neither read nor write"):
        vm.break_on(device, write=False)
    with pytest.raises(ConfigError, match="a whole number"):
        vm.break_at(-1)
    with pytest.raises(UnknownName, match="interrupt line"):
        vm.break_on_irq(999)
    with pytest.raises(EngineError, match=r"mapped nowhere|emulation"):
        vm.break_on_memory(0x7000_0000_0000, 8)
    with pytest.raises(UnknownName, match="no breakpoint 77"):
        vm.breakpoints[77]
    with pytest.raises(ExpectTimeout, match="runs on"):
        vm.wait_for_break(0.05)
    vm.pause()
    with pytest.raises(StateError, match="resume"):
        vm.wait_for_break(0.05)


def test_a_stop_reaches_the_notebook_soon(vm: VM) -> None:
    device, register = _on_output(vm)
    vm.break_on(f"{device}.{register}")
    took = []
    vm.console.send("a" * 20)
    for _ in range(20):
        event = vm.wait_for_break().event
        took.append(time.monotonic() - event.time)
        vm.resume()
    assert sorted(took)[10] < _STOP
