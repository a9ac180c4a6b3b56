"""Whatever the code of a device raises, wherever: the machine lives, and says so."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import require_kvm, require_module
from tests.vms import FIRST, PATIENCE, PROMPT, peeked
from vmlab import VM, Device, Registers, on_peek, on_read, on_write, ro, rw
from vmlab.core.bus import Bus
from vmlab.core.clock import Clock
from vmlab.core.device import command
from vmlab.errors import DeviceFault, StateError, VmlabError
from vmlab.testing import Driver, DriverError
from vmlab.virtio.device import VirtioDevice
from vmlab.vm.console import Console


class Odd(BaseException):
    """No Exception."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


#: name -> what raises it; the machine gets these by value
KINDS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "SystemExit": lambda: SystemExit(3),
    "Odd": Odd,
    "Mute": Mute,
    "surrogate": lambda: ValueError("\udcff"),
    "40 MB": lambda: ValueError("x" * (40 << 20)),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def named(kind: str) -> str:
    return {"surrogate": "ValueError", "40 MB": "ValueError"}.get(kind, kind)


class Raiser(Device):
    """Raises `kind` in `where`."""

    class regs(Registers):
        A = ro(0x00, "read")
        B = rw(0x04, "written")
        C = ro(0x08, "computed")
        D = rw(0x0C, "what follows works", reset=7)
        E = rw(0x10, "written to have a timed call")

    def __init__(self, kind: str, where: str) -> None:
        self.kind, self.where = kind, where
        self.fired = 0
        if where == "repr":
            self.shown = Rude(kind)

    def _do(self, where: str) -> None:
        if where == self.where:
            raise KINDS[self.kind]()

    @on_read("A")
    def _a(self) -> int:
        self._do("read")
        return 1

    @on_write("B")
    def _b(self, value: int) -> None:
        self._do("write")

    @on_peek("C")
    def _c(self) -> int:
        self._do("on_peek")
        return 2

    @on_write("E")
    def _e(self, value: int) -> None:
        self.clock.call_at(0, lambda: self._do("timed"))
        self.clock.call_at(self.clock.now(), self._fire)

    def _fire(self) -> None:
        self.fired += 1

    def irq_level(self) -> bool:
        self._do("irq_level")
        return False

    def attached(self) -> None:
        self._do("attached")

    def detached(self) -> None:
        self._do("detached")

    def inspect(self) -> dict[str, Any]:
        self._do("inspect")
        return super().inspect()

    @command
    def ask(self) -> int:
        self._do("command")
        return self.fired

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._do("arrival")


class Rude:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        raise KINDS[self.kind]()


@pytest.fixture(scope="module", params=["kvm", "soft"])
def vm(request: pytest.FixtureRequest) -> Iterator[VM]:
    """One machine for all of it: it has to live."""
    if request.param == "kvm":
        require_kvm()
    else:
        require_module("unicorn")
    with VM("monitor", engine=request.param) as vm:
        vm.console.expect(PROMPT, PATIENCE)
        yield vm


@pytest.fixture
def plugged(vm: VM) -> Iterator[Callable[[str, str], str]]:
    """Plugs in a Raiser; afterwards it goes, and the machine runs as if nothing had been."""

    def plug(kind: str, where: str) -> str:
        return vm.hot_add(Raiser(kind, where), id="raiser").id

    yield plug
    if "raiser" in vm.devices:
        vm.hot_remove("raiser", force=True)
    assert vm.state == "running"
    assert vm.hot_add(Raiser("Odd", "nowhere"), id="fine").base == FIRST
    assert peeked(vm, FIRST) == 1
    vm.hot_remove("fine", force=True)


ACCESSES = {
    "read": f"peek {FIRST:#x}",
    "write": f"poke {FIRST + 4:#x} 1",
    "on_peek": f"peek {FIRST + 8:#x}",
    "irq_level": f"peek {FIRST + 12:#x}",
}


@pytest.mark.parametrize("where", ACCESSES)
def test_in_an_access_the_guest_waits_there(
    vm: VM, plugged: Callable[[str, str], str], kind: str, where: str
) -> None:
    plugged(kind, where)
    with pytest.raises(DeviceFault, match=named(kind)) as caught:
        vm.console.run(ACCESSES[where], timeout=PATIENCE)
    assert caught.value.device == "raiser"
    assert (vm.state, bool(vm.state.fault)) == ("paused", True)
    assert len(str(caught.value)) < 50_000
    vm.replace("raiser", Raiser(kind, "nowhere"))
    vm.resume()
    vm.console.expect(PROMPT, PATIENCE)


def test_in_a_timed_call_other_timers_go_on(
    vm: VM, plugged: Callable[[str, str], str], kind: str
) -> None:
    id = plugged(kind, "timed")
    for n in (1, 2):
        vm.console.run(f"poke {FIRST + 16:#x} 1", timeout=PATIENCE)
        vm.wait_until(lambda _: vm.tell(id, "ask") == n, PATIENCE)  # noqa: B023


@pytest.mark.parametrize("where", ["inspect", "command"])
def test_in_a_call_it_is_the_callers(
    vm: VM, plugged: Callable[[str, str], str], kind: str, where: str
) -> None:
    id = plugged(kind, where)
    with pytest.raises(DeviceFault, match=named(kind)):
        vm.devices[id].peek() if where == "inspect" else vm.tell(id, "ask")


@pytest.mark.parametrize("where", ["attached", "arrival"])
def test_on_its_way_in_it_stays_out(
    vm: VM, plugged: Callable[[str, str], str], kind: str, where: str
) -> None:
    with pytest.raises(VmlabError, match=named(kind)):
        plugged(kind, where)
    assert "raiser" not in vm.devices


@pytest.mark.parametrize("how", ["hot_remove", "replace"])
def test_on_its_way_out_it_goes(
    vm: VM, plugged: Callable[[str, str], str], kind: str, how: str
) -> None:
    plugged(kind, "detached")
    if how == "hot_remove":
        vm.hot_remove("raiser", force=True)
        assert "raiser" not in vm.devices
    else:
        vm.replace("raiser", Raiser(kind, "nowhere"))
        assert peeked(vm, FIRST + 12) == 7


def test_a_repr_is_left_out(vm: VM, plugged: Callable[[str, str], str], kind: str) -> None:
    id = plugged(kind, "repr")
    values = vm.devices[id].peek()
    assert values["D"] == 7
    assert f"raised {named(kind)}" in values["shown"]


def test_a_new_device_that_does_not_come_leaves_the_old_one(vm: VM, kind: str) -> None:
    vm.hot_add(Raiser(kind, "nowhere"), id="raiser")
    with pytest.raises(VmlabError, match=named(kind)):
        vm.replace("raiser", Raiser(kind, "attached"))
    assert peeked(vm, FIRST + 12) == 7
    vm.hot_remove("raiser", force=True)


class Once(Device):
    """Can be attached once."""

    class regs(Registers):
        A = ro(0, "a", reset=5)

    def __init__(self) -> None:
        self.count = 0

    def attached(self) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


def test_neither_the_new_nor_the_old_one_can_be_attached(vm: VM) -> None:
    vm.hot_add(Once(), id="once")
    with pytest.raises(VmlabError, match="'once' is gone"):
        vm.replace("once", Raiser("Odd", "attached"))
    assert "once" not in vm.devices
    assert peeked(vm, FIRST) == 0xFFFF_FFFF
    assert vm.hot_add(Raiser("Odd", "nowhere"), id="next").base == FIRST
    vm.hot_remove("next", force=True)


# --- virtio ---------------------------------------------------------------------------------------------


class Echo(VirtioDevice):
    type, device_id, queue_sizes = "virtio-echo", 63, (16,)
    kind, where = "", ""

    def _do(self, where: str) -> None:
        if self.where == where:
            raise KINDS[self.kind]()

    def handle(self, index: int, chain: Any) -> int:
        self._do("handle")
        return int(chain.write(chain.read()[::-1]))

    def process(self, index: int) -> bool:
        self._do("process")
        return super().process(index)

    def activate(self) -> None:
        self._do("activate")

    def reset(self) -> None:
        self._do("reset")

    def read_config(self, offset: int, size: int) -> int:
        self._do("read_config")
        return 0

    def write_config(self, offset: int, size: int, value: int) -> None:
        self._do("write_config")

    def queue_reset(self, index: int) -> None:
        self._do("queue_reset")

    def detached(self) -> None:
        self._do("detached")


HOOKS: dict[str, Callable[[Driver], Any]] = {
    "handle": lambda driver: driver.request(0, [b"x"], [8]),
    "process": lambda driver: driver.request(0, [b"x"], [8]),
    "activate": lambda driver: driver.initialise(),
    "reset": lambda driver: driver.write("Status", 0),
    "read_config": lambda driver: driver.read_config(0, 4),
    "write_config": lambda driver: driver.transport.write(0x100, 4, 1),
    "queue_reset": lambda driver: (driver.write("QueueSel", 0), driver.write("QueueReady", 0)),
}


@pytest.mark.parametrize("where", HOOKS)
def test_a_virtio_device_asks_for_a_reset_and_serves_after_it(
    kind: str, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    device = Echo()
    with Driver(device, timeout=PATIENCE) as driver:
        before = len(driver.mistakes)
        device.kind, device.where = kind, where
        driver.timeout = 0.3
        with contextlib.suppress(DriverError):
            HOOKS[where](driver)
        driver.timeout = PATIENCE
        driver.wait_for(lambda: len(driver.mistakes) > before or driver.needs_reset())
        told = "".join(driver.mistakes)
        assert f"the device failed: {named(kind)}" in told
        assert len(told) < 10_000
        device.where = ""
        driver.initialise()
        assert driver.request(0, [b"abc"], [8]) == b"cba"
    assert len(capfd.readouterr().err) < 1_000_000


# --- everything else that calls -------------------------------------------------------------------------


def test_a_console_listener_is_taken_off(kind: str) -> None:
    console, heard = Console(len), []

    def listener(data: bytes) -> None:
        heard.append(data)
        raise KINDS[kind]()

    console.listen(listener)
    console.feed(b"a")
    console.feed(b"b")
    assert (heard, console.text) == ([b"a"], "ab")


def test_a_clock_goes_on(kind: str) -> None:
    clock, done = Clock(), threading.Event()

    def bad() -> None:
        raise KINDS[kind]()

    clock.call_at(0, bad)
    clock.call_at(1, done.set)
    clock.resume()
    assert done.wait(PATIENCE)
    clock.close()


def test_an_observer_is_taken_off(kind: str) -> None:
    bus, seen = Bus(), []

    def observer(*access: Any) -> None:
        seen.append(access)
        raise KINDS[kind]()

    bus.observe(observer)
    assert [bus.read(0, 4), bus.read(0, 4)] == [0xFFFF_FFFF] * 2
    assert len(seen) == 1


class Belled(Device):
    """A register device with a doorbell of its own."""

    class regs(Registers):
        A = rw(0x00, "a")

    def __init__(self, kind: str) -> None:
        self.kind, self.rung = kind, 0

    def doorbells(self) -> list[tuple[int, int, int | None, Callable[[int], None]]]:
        return [(0x20, 4, None, self._ring)]

    def _ring(self, count: int) -> None:
        self.rung += count
        if self.rung == 1:
            raise KINDS[self.kind]()


def test_a_doorbell_rings_again(vm: VM, kind: str) -> None:
    vm.hot_add(Belled(kind), id="bell")
    for n in (1, 2):
        vm.console.run(f"poke {FIRST + 0x20:#x} 1", timeout=PATIENCE)
        vm.wait_until(lambda _: vm.devices["bell"].peek("rung") == n, PATIENCE)  # noqa: B023
    vm.hot_remove("bell", force=True)


def test_a_listener_that_leaves_the_interpreter_does_not_end_the_session(engine: str) -> None:
    with VM("monitor", engine=engine) as vm:
        vm.console.expect(PROMPT, PATIENCE)
        vm.console.listen(lambda data: sys.exit(1))
        assert peeked(vm, 0x1000) == 0


class Surrogate(Device):
    """Has text that nothing can encode, wherever text is asked for."""

    class regs(Registers):
        A = ro(0x00, "a \udcff", reset=7)

    type = "odd\udcff"
    path = "\udcff.img"

    def __init__(self) -> None:
        self.file = "\udcff.img"

    @command
    def name(self) -> str:
        """\udcff"""
        return self.path

    @command
    def grow(self) -> None:
        self.file = "x" * (20 << 20)

    @command
    def much(self) -> bytes:
        return bytes(20 << 20)


def test_an_answer_that_cannot_be_sent_is_an_error_of_that_call(vm: VM) -> None:
    view = vm.hot_add(Surrogate(), id="odd")
    assert view.type == r"odd\udcff"
    assert view.peek("file") == r"\udcff.img"
    for call in ("name", "much"):
        with pytest.raises(VmlabError, match="answer"):
            vm.tell("odd", call)
    vm.tell("odd", "grow")
    assert "20,971,520 characters" in view.peek("file")
    assert peeked(vm, FIRST) == 7
    vm.hot_remove("odd", force=True)


class Flaky(Device):
    """Fails in what makes it go, at the machine's end."""

    class regs(Registers):
        A = ro(0, "a")

    def detached(self) -> None:
        raise SystemExit(5)


@pytest.mark.parametrize("isolate", [True, False])
def test_the_machine_ends_whatever_a_device_says(isolate: bool) -> None:
    require_kvm()
    with VM("monitor", engine="kvm", isolate=isolate, devices=[Flaky(), Flaky()]) as vm:
        vm.console.expect(PROMPT, PATIENCE)
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE
    assert vm.state == "stopped"
    with pytest.raises(StateError):
        vm.pause()
