"""`vm.consoles`: what devices say and hear, through the monitor process and without one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import require_module
from vmlab import VM, Device, Registers, command, wo
from vmlab.core.device import on_write
from vmlab.errors import ConfigError
from vmlab.monitor.output_buffer import MAX_WAITING, Gathered
from vmlab.monitor.wire import Output
from vmlab.virtio import Console


class Parrot(Device):
    """Says what it hears, on the next of its two consoles."""

    consoles = 2

    class regs(Registers):
        SAY = wo(0x00, "a character")

    @on_write("SAY")
    def say(self, value: int) -> None:
        self.output(bytes([value & 0xFF]))

    @command
    def send(self, data: bytes, port: int = 0) -> int:
        self.output(data[:5], 1 - port)
        return min(len(data), 5)


@pytest.fixture(params=[True, False], ids=["isolated", "in-process"])
def vm(request: pytest.FixtureRequest) -> Any:
    require_module("unicorn")
    machine = VM(kernel="hello", engine="soft", isolate=request.param)
    yield machine
    machine.stop()


def test_a_devices_consoles(vm: VM) -> None:
    assert vm.consoles == {"com1": vm.console}
    view = vm.hot_add(Parrot())
    assert list(vm.consoles) == ["com1", "parrot0", "parrot0/1"]
    assert view.console is vm.consoles["parrot0"]
    assert vm.consoles["parrot0/1"].send("hello, world") == 12
    vm.devices  # noqa: B018 - an answer comes after the output that was before it
    vm.tell("parrot0", "send", b"!")
    assert view.console.text == "hello, world"
    assert vm.consoles["parrot0/1"].text == "!"
    assert vm.console.text == ""


def test_a_device_of_the_same_name_begins_afresh(vm: VM) -> None:
    view = vm.hot_add(Parrot())
    vm.tell("parrot0", "send", b"old", 1)
    assert view.console.text == "old"
    vm.hot_remove("parrot0")
    assert list(vm.consoles) == ["com1"]
    assert vm.hot_add(Parrot()).console.text == ""


def test_a_console_device_has_as_many_as_ports(vm: VM) -> None:
    view = vm.hot_add(Console(ports=3))
    assert list(vm.consoles) == ["com1", "console0", "console0/1", "console0/2"]
    assert vm.consoles["console0/2"].send("x" * 100) == 100
    assert view.peek()["ports"][2]["waiting"] == 100
    with pytest.raises(ConfigError, match=r"'timer0' \(timer\) has no console"):
        vm.devices["timer0"].console  # noqa: B018


def test_what_waits_is_bounded_for_all_together() -> None:
    gathered = Gathered()
    gathered.add(Output(b"quiet", "b", 1))
    part = b"x" * (1 << 20)
    for _ in range(40):
        gathered.add(Output(part))
    outputs = gathered.take()
    assert outputs[0] == Output(b"quiet", "b", 1)
    assert b"bytes lost" in outputs[1].data
    kept = sum(len(one.data) for one in outputs)
    assert MAX_WAITING // 4 < kept <= 2 * MAX_WAITING + len(part)
    assert max(len(one.data) for one in outputs) <= MAX_WAITING
    assert gathered.take() == []
