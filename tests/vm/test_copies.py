"""The object in the notebook is a copy, and says so; replacing by the newest class."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vms import FIRST, monitor, peeked
from vmlab import VM, Device, Registers, command, on_read, ro, rw
from vmlab.errors import ConfigError, DeviceFault, DeviceNotFound, StateError
from vmlab.virtio import Rng

pytestmark = pytest.mark.usefixtures("no_leaks")

#: a "global" of the device's module
FACTOR = 10


class Odd(Device):
    type = "odd-one"

    class regs(Registers):
        X = rw(0x00, "a value", reset=6)
        Y = ro(0x04, "computed")
        Z = rw(0x08, "raises the line")

    def __init__(self, start: int = 5) -> None:
        self.start, self.seen, self._hidden = start, 0, 1

    @on_read("Y")
    def y(self) -> int:
        self.seen += 1
        return self.start * FACTOR

    @command
    def press(self, times: int = 1) -> int:
        self.seen += times
        return self.seen

    @property
    def double(self) -> int:
        return 2 * self.seen

    def irq_level(self) -> bool:
        return bool(self.r.Z)


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with monitor(engine) as machine:
        yield machine


def test_a_register_reaches_the_machine(vm: VM) -> None:
    odd = Odd()
    odd.r.X = 7  # before it travels it is an object like any other
    view = vm.hot_add(odd)
    assert peeked(vm, FIRST) == 7
    odd.r.X = 77
    assert peeked(vm, FIRST) == 77
    assert (odd.r.X, view.r.X, view.peek("X")) == (77, 77, 77)
    view.r.X = 78
    assert odd.r.X == 78
    assert "X" in dir(view.r)
    assert f"{'X':<16} 0x4e" in repr(odd.r)
    row = next(one for one in vm.irqs if "odd0" in one.device)
    assert not row.level
    odd.r.Z = 1
    assert next(one for one in vm.irqs if "odd0" in one.device).level, "the line follows"
    assert vm.traps["odd0"].registers["X"].writes == 0, "it is no access of the guest's"


def test_a_wrong_register_or_value_is_named(vm: VM) -> None:
    odd = Odd()
    vm.hot_add(odd)
    with pytest.raises(ConfigError, match="no register 'XX'; did you mean 'X'"):
        odd.r.XX = 1
    with pytest.raises(AttributeError, match="no register 'YY'; did you mean 'Y'"):
        _ = odd.r.YY
    for value in (-1, 1 << 32, "7", 1.5, None):
        with pytest.raises(ConfigError, match=r"odd0\.r\.X"):
            odd.r.X = value


def test_attributes_are_read_from_the_machine_and_not_assigned(vm: VM) -> None:
    odd = Odd()
    vm.hot_add(odd)
    peeked(vm, FIRST + 4)
    assert odd.seen == 1
    assert odd.double == 2
    with pytest.raises(StateError, match=r"copy.*'odd0'.*seen = 9.*@command.*vm.replace\('odd0'"):
        odd.seen = 9
    with pytest.raises(StateError, match="copy"):
        del odd.seen
    with pytest.raises(StateError, match="copy"):
        odd._hidden = 3
    assert "plugged in as 'odd0'" in repr(odd)


def test_methods_are_the_machines_or_say_so(vm: VM) -> None:
    odd = Odd()
    vm.hot_add(odd)
    assert odd.press(3) == 3
    assert odd.press(times=2) == 5
    assert odd.peek()["X"] == odd.peek("X") == 6
    for call in (
        odd.y,
        odd.irq_level,
        odd.reset,
        lambda: odd.read(0, 4),
        lambda: odd.write(0, 4, 1),
    ):
        with pytest.raises(StateError, match=r"'odd0'.*@command"):
            call()
    for name, instead in (("irq", r"vm.irqs\['odd0'\]"), ("memory", "vm.memory")):
        with pytest.raises(StateError, match=instead):
            getattr(odd, name)


def test_it_is_still_what_it_was(vm: VM) -> None:
    odd = Odd(9)
    vm.hot_add(odd)
    assert isinstance(odd, Odd)
    assert (type(odd).__name__, odd.type) == ("Odd", "odd-one")
    for other in (copy.copy(odd), copy.deepcopy(odd)):
        assert type(other) is Odd
        other.seen = 3  # a copy is here, and free
        assert (other.read(4, 4), other.start) == (90, 9)


@pytest.mark.parametrize("isolate", [True, False])
def test_one_object_is_one_device(engine: str, isolate: bool) -> None:
    odd, rng = Odd(), Rng()
    with pytest.raises(ConfigError, match=r"twice.*make another, Odd"):
        VM("monitor", engine=engine, devices=[odd, Rng(), odd])
    with monitor(engine, isolate=isolate, devices=[odd]) as vm:
        vm.hot_add(rng, wait=0)
        for device, id in ((odd, "odd0"), (rng, "rng0")):
            with pytest.raises(ConfigError, match=f"plugged in already, as '{id}'"):
                vm.hot_add(device)
            with pytest.raises(ConfigError, match=f"plugged in already, as '{id}'"):
                VM("monitor", devices=[device])
        vm.hot_remove("odd0")
        odd.seen = 4  # it is here again
        vm.hot_add(odd)
        assert vm.devices["odd0"].peek("seen") == 4
    odd.r.X = 1
    with monitor(engine, devices=[odd]) as vm:
        assert vm.devices["odd0"].peek("X") == 1
        vm.stop()
        vm.start()  # what it was made of is plugged in again
        assert odd.r.X == 1
        with pytest.raises(StateError, match="copy"):
            odd.seen = 1


def test_a_machine_that_nobody_holds_gives_it_back(engine: str) -> None:
    odd = Odd()
    vm = VM("monitor", engine=engine, devices=[odd]).start()
    del vm
    gc.collect()
    odd.seen = 3
    assert odd.seen == 3


def test_what_was_not_added_stays_here(vm: VM) -> None:
    odd = Odd()
    vm.hot_add(Odd(), id="taken")
    with pytest.raises(ConfigError):
        vm.hot_add(odd, id="taken")
    odd.seen = 3
    assert type(odd) is Odd


# --- replace without a device ---------------------------------------------------------------------------


def newer(**changes: Any) -> type[Odd]:
    """The class as a cell that is run again makes it."""

    class Newer(Device):
        type = "odd-one"

        class regs(Registers):
            X = rw(0x00, "a value", reset=8)
            Y = ro(0x04, "computed")
            W = rw(0x0C, "new", reset=3)

        def __init__(self, start: int = 5) -> None:
            self.start, self.seen, self.fresh = start, 0, 7

        @on_read("Y")
        def y(self) -> int:
            return self.start * 1000 + self.fresh

    Newer.__qualname__ = Newer.__name__ = "Odd"
    return Newer  # type: ignore[return-value]


def test_the_newest_class_with_the_state_as_plugged(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Odd(4)
    odd.r.X = 9
    vm.hot_add(odd)
    odd.r.X = 55
    monkeypatch.setitem(globals(), "Odd", newer())
    view = vm.replace("odd0")
    assert peeked(vm, FIRST) == 9, "as it was when it was plugged in"
    assert peeked(vm, FIRST + 4) == 4007, "and what the new constructor makes is there"
    assert view.peek("W") == 3
    odd.r.X = 1  # the old object is here again
    assert view.peek("X") == 9


def test_a_register_that_was_never_set_has_the_new_reset_value(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm.hot_add(Odd())
    monkeypatch.setitem(globals(), "Odd", newer())
    assert vm.replace("odd0").peek("X") == 8


def test_a_changed_global_is_something_newer(vm: VM, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Odd()
    vm.hot_add(odd)
    assert peeked(vm, FIRST + 4) == 50
    assert not vm.devices["odd0"].outdated
    monkeypatch.setitem(globals(), "FACTOR", 11)
    assert peeked(vm, FIRST + 4) == 50, "the machine has the globals as they were"
    assert vm.devices["odd0"].outdated
    vm.replace("odd0")
    assert not vm.devices["odd0"].outdated
    assert peeked(vm, FIRST + 4) == 55
    odd.r.X = 3  # the same object: it is still the device's
    assert peeked(vm, FIRST) == 3


def test_a_fault_of_something_older_says_so(vm: VM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FACTOR", None)
    vm.hot_add(Odd())
    with pytest.raises(DeviceFault) as caught:
        peeked(vm, FIRST + 4)
    assert "vm.replace" not in str(caught.value)
    monkeypatch.setitem(globals(), "FACTOR", 2)
    with pytest.raises(DeviceFault, match=r"vm\.replace\('odd0'\) brings in"):
        vm.console.expect("never", timeout=5)
    vm.replace("odd0")
    vm.resume()
    assert peeked(vm, FIRST + 4) == 10


@pytest.mark.parametrize("isolate", [True, False])
def test_nothing_newer(engine: str, isolate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with monitor(engine, isolate=isolate, devices=[Odd(), Rng()]) as vm:
        for id in ("odd0", "rng0"):
            with pytest.raises(ConfigError, match=rf"no newer .*'{id}'.*replace\('{id}'"):
                vm.replace(id)
        with pytest.raises(ConfigError, match="com1"):
            vm.replace("com1")
        with pytest.raises(DeviceNotFound, match="did you mean 'odd0'"):
            vm.replace("od0")
        monkeypatch.delitem(globals(), "Odd")
        with pytest.raises(ConfigError, match="give the new device"):
            vm.replace("odd0")
