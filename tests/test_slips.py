"""What a device's author easily gets wrong: it is said, and how to go on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vms import FIRST, Dice, monitor
from vmlab import Device, Registers, command, on_peek, on_read, on_write, rw
from vmlab.errors import (
    ConfigError,
    DeviceFault,
    RegisterTableError,
    StateError,
    UnknownName,
)
from vmlab.testing import Socket

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
    with Socket(Typist()) as socket, pytest.raises(AttributeError, match="LIMTI"):
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
            vm.devices["dice0"] = Dice()  # type: ignore[assignment]
        with pytest.raises(ConfigError, match=r"vm\.hot_add\(device, 'dice1'\)"):
            vm.devices["dice1"] = Dice()  # type: ignore[assignment]
        with pytest.raises(ConfigError, match=r"vm\.hot_remove\('dice0'\)"):
            del vm.devices["dice0"]
        with pytest.raises(UnknownName, match="did you mean 'dice0'"):
            del vm.devices["dise0"]
