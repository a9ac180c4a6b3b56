"""What a device's author easily gets wrong: it is said, and how to go on."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.vms import FIRST, Broken, Dice, monitor, peeked
from vmlab import Device, Registers, command, on_peek, on_read, on_write, rw
from vmlab.errors import (
    ConfigError,
    DeviceFault,
    RegisterTableError,
    StateError,
    UnknownName,
    VmlabError,
)
from vmlab.testing import DeviceHarness
from vmlab.virtio import Disk

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=[True, False], ids=["isolated", "local"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Typist(Device):
    class regs(Registers):
        LIMIT = rw(0x00, "a number", reset=5)
        PLACE = rw(0x04, "another")

    @on_write("LIMIT")
    def limit(self, value: int) -> None:
        self.r.LIMTI = value

    @on_read("PLACE")
    def place(self) -> int:
        return int(self.r.LIMTI)

    @command
    def kind(self) -> tuple[bool, list[str]]:
        return hasattr(self.r, "__dict__"), list(type(self.r).__slots__)


def test_a_name_that_is_no_register_is_refused_everywhere(isolate: bool) -> None:
    with pytest.raises(AttributeError, match=r"'Typist\.r' object has no attribute 'TYPO'"):
        Typist().r.TYPO = 3
    with DeviceHarness(Typist()) as socket, pytest.raises(AttributeError, match="LIMTI"):
        socket.write(0, 4, 3)
    with monitor("auto", isolate=isolate) as vm:
        view = vm.hot_add(Typist())
        assert view.kind() == [False, ["LIMIT", "PLACE"]]
        for line in (f"poke {FIRST:#x} 3", f"peek {FIRST + 4:#x}"):
            with pytest.raises(DeviceFault, match=r"'LIMTI'; did you mean 'LIMIT'\?") as caught:
                vm.console.run(line)
            assert caught.value.traceback.rstrip().endswith("did you mean 'LIMIT'?")
            vm.hot_remove("typist0", force=True)
            vm.resume()
            vm.hot_add(Typist())


# --- names -------------------------------------------------------------------------------------------

TAKEN = [
    "read",
    "write",
    "peek",
    "reset",
    "update",
    "attached",
    "detached",
    "irq",
    "irq_level",
    "clock",
]
TAKEN += [
    "memory",
    "r",
    "regs",
    "size",
    "type",
    "lock",
    "counters",
    "inspect",
    "doorbells",
    "_wire",
]


@pytest.mark.parametrize("mark", [on_read, on_write, on_peek])
@pytest.mark.parametrize("name", TAKEN)
def test_a_handler_that_would_hide_what_every_device_has(mark: Any, name: str) -> None:
    def handler(self: Any) -> int:
        return 3

    def taking(self: Any, value: int) -> None:
        pass

    marked = mark("A")(taking if mark is on_write else handler)

    class regs(Registers):
        A = rw(0, "a")

    words = rf"N\.{name}, the on_\w+ of A, would hide Device\.{name}.*call it something else"
    with pytest.raises(RegisterTableError, match=words):
        type("N", (Device,), {name: marked, **({"regs": regs} if name != "regs" else {})})


def test_what_a_device_may_define_stays_allowed() -> None:
    class Own(Dice):
        @on_peek("SIDES")
        def id(self) -> int:
            return 7

        def reset(self) -> None:
            super().reset()

        def attached(self) -> None:
            pass

        def irq_level(self) -> bool:
            return False

    assert Own().peek("SIDES") == 7


# --- views -------------------------------------------------------------------------------------------


def test_what_is_assigned_to_a_view_is_not_lost_silently() -> None:
    with monitor("auto", devices=[Dice()]) as vm:
        view = vm.devices["dice0"]
        for name, words in (
            ("SIDES", r"SIDES = 9 would not reach it; the register is \.r\.SIDES"),
            (
                "rolls",
                r"rolls = 9 .*\(\.r\.NAME = \.\.\.\).*@command; vm\.replace\('dice0', device\)",
            ),
            ("irq", r"irq = 9 .*hot_add\(device, at=\.\.\., irq=\.\.\.\)"),
            ("counts", "counts = 9 would not"),
        ):
            with pytest.raises(StateError, match=words):
                setattr(view, name, 9)
        with pytest.raises(StateError, match="rolls = None"):
            del view.rolls
        view.r.SIDES = 3
        assert (view.peek("SIDES"), view.irq) == (3, None)
        with pytest.raises(ConfigError, match=r"vm\.replace\('dice0', device\)"):
            vm.devices["dice0"] = Dice()
        with pytest.raises(ConfigError, match=r"vm\.hot_add\(device, 'dice1'\)"):
            vm.devices["dice1"] = Dice()
        with pytest.raises(ConfigError, match=r"vm\.hot_remove\('dice0'\)"):
            del vm.devices["dice0"]
        with pytest.raises(UnknownName, match="did you mean 'dice0'"):
            del vm.devices["dise0"]


# --- a machine that is paused at a failure -----------------------------------------------------------


def test_a_failure_says_how_the_guest_goes_on(isolate: bool) -> None:
    with monitor("auto", isolate=isolate, devices={"b": Broken()}) as vm:
        with pytest.raises(DeviceFault) as caught:
            vm.console.run(f"peek {FIRST:#x}")
        text = str(caught.value)
        assert text.startswith(
            f"device 'b' failed at {FIRST:#x} (reading VALUE): ZeroDivisionError"
        )
        assert "; the guest is paused at this access: replace('b', a corrected device)" in text
        assert "resume()" in text
        vm.replace("b", Dice())
        words = r"paused since 'b' failed; 'b' has been replaced; resume\(\) it"
        with pytest.raises(StateError, match=words):
            vm.console.run(f"peek {FIRST:#x}")
        with pytest.raises(StateError, match=words):
            vm.wait(1)
        vm.replace("b", Broken())
        vm.resume()
        with pytest.raises(DeviceFault, match="the author was tired"):
            vm.console.expect("nothing")
        vm.hot_remove("b", force=True)
        with pytest.raises(StateError, match="'b' has been removed; resume"):
            vm.console.run("help")
        vm.resume()
        vm.console.expect("0xffffffff")


# --- what is given instead of an id ------------------------------------------------------------------


def test_a_view_or_a_device_instead_of_an_id(isolate: bool) -> None:
    with monitor("auto", isolate=isolate) as vm:
        dice = Dice()
        view = vm.hot_add(dice)
        for call, words in (
            (lambda: vm.hot_remove(dice), r"give its id: hot_remove\('dice0'\)"),  # type: ignore[arg-type]
            (lambda: vm.replace(dice, Dice()), r"give its id: replace\('dice0', \.\.\.\)"),  # type: ignore[arg-type]
            (lambda: vm.tell(dice, "x"), r"give its id: tell\('dice0', \.\.\.\)"),  # type: ignore[arg-type]
            (lambda: vm.hot_remove(Dice()), r"vm\.devices shows it: hot_remove\(id\)"),  # type: ignore[arg-type]
            (lambda: vm.hot_remove(None), "None is no id of a device"),  # type: ignore[arg-type]
        ):
            with pytest.raises(ConfigError, match=words):
                call()
        view = vm.replace(view, Dice())  # type: ignore[arg-type]
        assert peeked(vm, FIRST) == 1
        vm.hot_remove(view)  # type: ignore[arg-type]
        assert "dice0" not in vm.devices


def test_words_of_sizes_and_images(tmp_path: Any) -> None:
    for size, words in (
        (-1, r"size=-1 is -1 bytes: a disk has one sector.*such as \"16M\""),
        (0, "size=0 is 0 bytes"),
        ("64", "size='64' is 64 bytes.*did you mean \"64M\""),
        (64, 'did you mean "64M"'),
    ):
        with pytest.raises(ConfigError, match=words):
            Disk(size=size)
    path = tmp_path / "my disk.img"
    with pytest.raises(ConfigError, match=re.escape(f"`truncate -s 64M '{path}'`")):
        Disk(path)


def test_a_wait_says_its_own_time() -> None:
    with monitor("auto") as vm, pytest.raises(VmlabError, match=r"within 0\.2 s"):
        asyncio.run(vm.wait_for("nothing", timeout=0.2))


def test_a_method_that_is_no_command(isolate: bool) -> None:
    with monitor("auto", isolate=isolate, devices=[Dice()]) as vm:
        words = "roll is a method of Dice: mark it with @command"
        with pytest.raises(VmlabError, match=words):
            vm.devices["dice0"].roll()


def test_interrupt_lines_by_position_and_by_number() -> None:
    with monitor("auto") as vm:
        assert vm.irqs.line(4) == vm.irqs["com1"]
        assert vm.irqs[-1] == list(vm.irqs)[-1]
        with pytest.raises(IndexError, match=r"position.*irqs\.line\(99\)"):
            vm.irqs[99]
