"""`command`: methods of a device in the machine that the notebook may call."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.support import require_module
from vmlab import VM, Device, Registers, command, rw
from vmlab.core.device import commands
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.pc.i8042 import I8042
from vmlab.errors import ConfigError, DeviceFault, DeviceNotFound
from vmlab.virtio.console import Console
from vmlab.virtio.device import VirtioDevice


class Pad(Device):
    """A button that raises the line."""

    class regs(Registers):
        BUTTON = rw(0x00, "the button that is pressed")

    def irq_level(self) -> bool:
        return bool(self.r.BUTTON)

    @command
    def press(self, button: int = 1, *, note: str = "") -> dict[str, Any]:
        """Press it."""
        if button < 0:
            raise ValueError("a negative button")
        self.r.BUTTON = button
        return {"button": button, "note": note, "pair": (1, 2)}

    def hidden(self) -> None:
        """No command."""


class Quiet(Pad):
    """Overrides the command; it stays one."""

    def press(self, button: int = 1, *, note: str = "") -> dict[str, Any]:
        return {}


class Bell(VirtioDevice):
    type, device_id, queue_sizes = "virtio-bell", 60, (8,)

    @command
    def ring(self, times: int) -> str:
        return "ding" * times


class Plain(Device):
    """Methods that are described without `inspect`, one that is not, and what it says of them all."""

    @command
    def all_of_it(self, note: str, size: int = 4, names: tuple[str, ...] = ("a", "b")) -> list[int]:
        """First line.

        Second paragraph,
            indented.
        """
        return []

    @command
    def bare(self, one, two=None):  # type: ignore[no-untyped-def]
        """Without annotations."""

    @command
    def many(self, *rest: int) -> None:
        """Any number."""


@pytest.mark.parametrize("device", [Plain(), Pad(), HotPlug(), I8042(), Console()])
def test_what_is_said_of_a_command_is_what_inspect_says(device: object) -> None:
    for name, (signature, doc) in commands(device).items():
        method = getattr(device, name)
        assert signature.replace("'", "") == str(inspect.signature(method)).replace("'", "")
        assert doc == inspect.getdoc(method)


def test_commands_are_listed_with_signature_and_docstring() -> None:
    assert commands(Pad()) == {
        "press": ("(button: int = 1, *, note: str = '') -> dict[str, Any]", "Press it.")
    }
    assert list(commands(Quiet())) == ["press"]
    assert list(commands(Bell())) == ["ring"]
    assert commands(Device()) == {}


@pytest.fixture(params=[True, False], ids=["isolated", "in-process"])
def vm(request: pytest.FixtureRequest) -> Any:
    require_module("unicorn")
    machine = VM(kernel="hello", engine="soft", isolate=request.param)
    yield machine
    machine.stop()


def test_a_view_has_the_commands_of_its_device(vm: VM) -> None:
    pad = vm.hot_add(Pad())
    assert pad.press(3, note="x") == {"button": 3, "note": "x", "pair": [1, 2]}
    assert pad.peek("BUTTON") == 3
    assert "press" in dir(pad)
    assert pad.press.__doc__.startswith("press(button: int = 1,")  # type: ignore[union-attr]
    assert not hasattr(pad, "hidden")
    assert vm.hot_add(Bell()).ring(2) == "dingding"


def test_the_line_follows_a_command(vm: VM) -> None:
    pad = vm.hot_add(Pad())
    assert not next(row for row in vm.irqs if row.line == pad.irq).level
    vm.tell(pad.id, "press", 1)
    assert next(row for row in vm.irqs if row.line == pad.irq).level


def test_what_cannot_be_told(vm: VM) -> None:
    pad = vm.hot_add(Pad())
    with pytest.raises(ConfigError, match=r"'pad0' \(pad\) has no command 'hidden'; it has press"):
        vm.tell("pad0", "hidden")
    with pytest.raises(ConfigError, match="has no command 'read'; it has none"):
        vm.tell("timer0", "read", 0, 4)
    with pytest.raises(ConfigError, match="too many positional arguments"):
        pad.press(1, 2)
    with pytest.raises(ConfigError, match="object"):
        pad.press(object())
    with pytest.raises(DeviceFault, match="ValueError: a negative button"):
        pad.press(-1)
    with pytest.raises(DeviceNotFound, match="'pad9'"):
        vm.tell("pad9", "press")
    assert pad.press(1)["button"] == 1
