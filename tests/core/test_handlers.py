"""A handler that cannot work is named, with its register: when its class is made, or at the access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.vms import FIRST, monitor
from vmlab import Device, Registers, block, on_peek, on_read, on_write, ro, rw
from vmlab.errors import DeviceFault, RegisterTableError, UnknownName
from vmlab.testing import Driver, DriverError
from vmlab.virtio.device import VirtioDevice


class Table(Registers):
    ROLL = ro(0x00, "read")
    SIDES = rw(0x04, "read and written")
    SPACE = block(0x10, 16, "decodes itself")


def device(**methods: Any) -> type[Device]:
    return type("Dice", (Device,), {"regs": Table, **methods})


@pytest.mark.parametrize(
    ("mark", "function", "words"),
    [
        (on_read("ROLL"), lambda self, value: 1, r"on_read of ROLL, takes \(self, value\)"),
        (on_read("ROLL"), lambda: 1, r"on_read of ROLL, takes \(\); write it as def .*\(self\)"),
        (on_peek("ROLL"), lambda self, value: 1, r"on_peek of ROLL, takes"),
        (on_write("SIDES"), lambda self: None, r"on_write of SIDES.*\(self, value\)"),
        (on_write("SIDES"), lambda self, a, b: None, "on_write of SIDES"),
        (on_write("SIDES"), lambda self, a, *, key: None, "on_write of SIDES"),
        (on_read("SPACE"), lambda self: 1, r"on_read of SPACE.*\(self, offset, size\)"),
        (on_write("SPACE"), lambda self, value: 1, r"SPACE.*\(self, offset, size, value\)"),
        (on_read("ROL"), lambda self: 1, "ROL, which is no register; did you mean 'ROLL'"),
        (on_read("XYZ"), lambda self: 1, "no register$"),
    ],
)
def test_a_wrong_signature(mark: Callable[..., Any], function: Any, words: str) -> None:
    with pytest.raises(RegisterTableError, match=words) as caught:
        device(roll=mark(function))
    assert "Dice.roll" in str(caught.value)


def test_its_line_is_named() -> None:
    @on_read("ROLL")
    def roll(self: Any, value: int) -> int:
        return value

    with pytest.raises(RegisterTableError) as caught:
        device(roll=roll)
    line = roll.__code__.co_firstlineno + 1  # that of `def`, behind the decorator's
    assert f"test_handlers.py, line {line})" in str(caught.value)


def test_what_can_be_called_is_accepted() -> None:
    def rest(self: Any, *values: int) -> int:
        return 3

    device(
        a=on_read("ROLL")(lambda self, more=1: True),
        b=on_write("SIDES")(rest),
        c=on_read("SPACE")(rest),
        d=on_write("SPACE")(lambda self, at, size, value, *, key=1: None),
    )
    assert device(a=on_read("ROLL")(lambda self: True))().read(0, 4) == 1


def test_generators_and_coroutines() -> None:
    def generator(self: Any) -> Any:
        yield 1

    async def coroutine(self: Any) -> int:
        return 1

    with pytest.raises(RegisterTableError, match="yield"):
        device(roll=on_read("ROLL")(generator))
    with pytest.raises(RegisterTableError, match="async"):
        device(roll=on_read("ROLL")(coroutine))


def test_decorators_without_a_name() -> None:
    for wrong in (lambda: on_read(lambda self: 1), on_write, lambda: on_peek(Table.ROLL)):  # type: ignore[arg-type]
        with pytest.raises(RegisterTableError, match="needs the names of registers"):
            wrong()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", ["reset", "irq_level", "attached", "detached", "inspect"])
def test_methods_that_the_machine_calls(name: str) -> None:
    with pytest.raises(RegisterTableError, match=rf"Dice\.{name} .*takes \(self, more\)"):
        device(**{name: lambda self, more: None})


@pytest.mark.parametrize("name", ["handle", "process", "reset", "read_config", "attached"])
def test_methods_of_virtio_devices(name: str) -> None:
    with pytest.raises(RegisterTableError, match=rf"Mine\.{name} .*takes \(\)"):
        type("Mine", (VirtioDevice,), {name: lambda: 0})


def test_a_table_under_another_name() -> None:
    with pytest.raises(RegisterTableError, match=r"Dice\.Regs.*class regs\(Registers\)"):
        type("Dice", (Device,), {"Regs": Table})
    for wrong in ({}, object):  # type: ignore[var-annotated]
        with pytest.raises(RegisterTableError, match="no table"):
            type("Dice", (Device,), {"regs": wrong})


@pytest.mark.parametrize("options", [{"offset": "0"}, {"reset": "x"}, {"width": 32.0}])
def test_numbers_of_a_register(options: dict[str, Any]) -> None:
    with pytest.raises(RegisterTableError, match="whole number"):
        rw(**{"offset": 0, **options})
    with pytest.raises(RegisterTableError, match="did you mean 'reset'"):
        rw(0, rest=5)


def test_arguments_for_a_class_without_a_constructor() -> None:
    with pytest.raises(TypeError, match=r"Dice\(\) takes no arguments"):
        device()(8)


@pytest.mark.parametrize(
    ("value", "got"),
    [("hello", "'hello', a str"), (1.5, "1.5, a float"), (None, "return"), ([1], r"\[1\], a list")],
)
def test_a_result_that_is_no_number(value: object, got: str) -> None:
    dice = device(
        roll=on_read("ROLL")(lambda self: value),
        sides=on_peek("SIDES")(lambda self: value),
        space=on_read("SPACE")(lambda self, at, size: value),
    )()
    for offset, name in (
        (0, "on_read of ROLL"),
        (4, "on_peek of SIDES"),
        (0x10, "on_read of SPACE"),
    ):
        with pytest.raises(TypeError, match=f"{name}, must return an int; it returned .*{got}"):
            dice.read(offset, 4)
    with pytest.raises(TypeError, match="on_peek of SIDES"):
        dice.peek("SIDES")
    with pytest.raises(UnknownName, match="no register 'ROL'; did you mean 'ROLL'"):
        dice.peek("ROL")


def test_a_type_error_of_the_handlers_own_is_its_own() -> None:
    dice = device(roll=on_read("ROLL")(lambda self: len(5)))()  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"len\(\)"):
        dice.read(0, 4)


class Wordy(Device):
    class regs(Registers):
        A = ro(0, "no number")

    @on_read("A")
    def a(self) -> int:
        return "text"  # type: ignore[return-value]


def test_it_is_shown_where_it_is_written(engine: str) -> None:
    with monitor(engine, devices=[Wordy()]) as vm:
        with pytest.raises(DeviceFault, match=r"Wordy\.a, the on_read of A") as caught:
            vm.console.run(f"peek {FIRST:#x}", timeout=20)
        text = caught.value.traceback
        assert "def a(self) -> int:" in text
        assert "dispatch" not in text


def test_a_request_that_is_answered_with_no_number() -> None:
    class Forgetful(VirtioDevice):
        type, device_id, queue_sizes = "virtio-forget", 63, (8,)

        def handle(self, index: int, chain: Any) -> int:
            return None  # type: ignore[return-value]

    with Driver(Forgetful(), timeout=1) as driver:
        with pytest.raises(DriverError):
            driver.request(0, [b"x"], [8])
        assert any("Forgetful.handle" in one and "return" in one for one in driver.mistakes)
