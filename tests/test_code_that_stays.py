"""A device's code that does not return: it is named, nothing else waits for it, and it is left by force."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import require_kvm
from tests.vms import FIRST, PATIENCE, PROMPT, monitor, peeked
from tests.waiting import until
from vmlab import VM, Device, Registers, on_peek, on_read, on_write, ro, rw
from vmlab.core.device import command
from vmlab.core.patience import Taken
from vmlab.errors import ExpectTimeout, StateError, VmlabError
from vmlab.machine.busy import Watch
from vmlab.testing import Driver
from vmlab.virtio.device import VirtioDevice

#: what the machine promises, in seconds, and what a host with other work to do adds
NAMED, ANSWERS, STOPS, SLACK = 2.0, 3.0, 2.0, 3.0


def spin() -> None:
    while True:
        pass


def doze() -> None:
    while True:
        time.sleep(0.05)


def sleep() -> None:
    time.sleep(1e9)


def wait() -> None:
    threading.Event().wait()


def deadlock() -> None:
    lock = threading.Lock()
    with lock, lock:
        pass


class Fine(Device):
    type = "stuck"

    class regs(Registers):
        A = ro(0x00, "a", reset=0x600D)
        B = rw(0x04, "b")


class Stuck(Device):
    """Stays in `where`."""

    class regs(Registers):
        A = ro(0x00, "read")
        B = rw(0x04, "written")
        C = ro(0x08, "computed")

    def __init__(self, where: str, stay: Callable[[], None] = doze) -> None:
        self.where, self.stay = where, stay
        if where == "repr":
            self.shown = Slow()

    def _do(self, where: str) -> None:
        if where == self.where:
            self.stay()

    @on_read("A")
    def read_here(self) -> int:
        self._do("read")
        return 1

    @on_write("B")
    def write_here(self, value: int) -> None:
        self._do("write")
        if self.where == "timed":
            self.clock.call_at(0, self.timed_here)

    def timed_here(self) -> None:
        self._do("timed")

    @on_peek("C")
    def peek_here(self) -> int:
        self._do("on_peek")
        return 2

    def irq_level(self) -> bool:
        self._do("irq_level")
        return False

    def attached(self) -> None:
        self._do("attached")

    def detached(self) -> None:
        self._do("detached")

    def reset(self) -> None:
        self._do("reset")
        super().reset()

    def inspect(self) -> dict[str, Any]:
        self._do("inspect")
        return super().inspect()

    @command
    def ask(self) -> None:
        self._do("command")


class Slow:
    def __repr__(self) -> str:
        doze()
        return ""


class Call:
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except VmlabError as error:
            self.error = error

    def over(self) -> bool:
        self._thread.join(SLACK)
        return not self._thread.is_alive()


def within(seconds: float, call: Callable[[], Any]) -> None:
    """The call answers in time, with an error or without."""
    began = time.monotonic()
    with contextlib.suppress(VmlabError, KeyError):
        call()
    assert time.monotonic() - began < seconds + SLACK


def wait_named(vm: VM, where: str) -> None:
    began = time.monotonic()
    while not vm.state.busy:
        assert time.monotonic() - began < NAMED + SLACK, "nobody is named"
        time.sleep(0.01)
    assert vm.state.busy.startswith(f"busy in {where}, for "), vm.state.busy


@pytest.mark.parametrize("stay", [spin, doze, sleep, wait, deadlock])
def test_a_handler_is_named_and_left(engine: str, stay: Callable[[], None]) -> None:
    with monitor(engine, devices=[Stuck("read", stay)]) as vm:
        vm.console.send(f"peek {FIRST:#x}\n")
        wait_named(vm, "stuck0.read_here, reading A")
        state = vm.state
        assert state == "running"
        assert state.reason == state.busy
        assert state.busy in repr(state)
        assert "busy in stuck0.read_here" in repr(vm)
        stack = vm.stuck()
        assert "read_here" in stack
        assert stay.__name__ in stack
        with pytest.raises(ExpectTimeout, match=r"busy in stuck0.*the console ends") as late:
            vm.console.expect("never", 0.1)
        assert "read_here" in late.value.__notes__[0]
        began = time.monotonic()
        with pytest.raises(StateError, match=r"busy in stuck0.*force=True") as caught:
            vm.pause()
        assert time.monotonic() - began < ANSWERS + SLACK
        assert "read_here" in caught.value.__notes__[0]
        assert vm.state == "running", "the guest goes on"
        vm.replace("stuck0", Fine(), force=True)
        vm.console.expect("0x0000600d", PATIENCE)
        assert vm.state.busy == ""
        assert vm.stuck() == ""
        vm.pause()
        vm.resume()
        vm.console.run("", timeout=PATIENCE)
        assert peeked(vm, FIRST) == 0x600D


@pytest.mark.parametrize("isolate", [True, False])
def test_the_machine_ends(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate, devices=[Stuck("read", spin)]) as vm:
        vm.console.send(f"peek {FIRST:#x}\n")
        wait_named(vm, "stuck0.read_here, reading A")
        began = time.monotonic()
    assert time.monotonic() - began < STOPS + SLACK
    assert vm.state == "stopped"
    assert vm.state.busy == ""


@pytest.mark.kvm
def test_removal_by_force() -> None:
    with monitor("kvm", devices=[Stuck("write")]) as vm:
        vm.console.send(f"poke {FIRST + 4:#x} 1\n")
        wait_named(vm, "stuck0.write_here, writing B")
        with pytest.raises(StateError, match=r"busy in stuck0.*force=True"):
            vm.hot_remove("stuck0")
        vm.hot_remove("stuck0", force=True)
        vm.console.expect(PROMPT, PATIENCE)
        assert "stuck0" not in vm.devices


def stubborn() -> None:
    while True:
        try:
            doze()
        except BaseException:  # noqa: BLE001
            pass


@pytest.mark.kvm
def test_code_that_cannot_be_left_is_said_to_be() -> None:
    with monitor("kvm", devices=[Stuck("read", stubborn)]) as vm:
        vm.console.send(f"peek {FIRST:#x}\n")
        wait_named(vm, "stuck0.read_here, reading A")
        with pytest.raises(StateError, match=r"nothing interrupts.*stop\(\) ends the machine"):
            vm.replace("stuck0", Fine(), force=True)
        assert "stuck0" in vm.devices
        began = time.monotonic()
    assert time.monotonic() - began < STOPS + SLACK


@pytest.fixture(scope="module", params=[True, False], ids=["isolated", "local"])
def vm(request: pytest.FixtureRequest) -> Iterator[VM]:
    """One machine for all of it."""
    require_kvm()
    with monitor("kvm", isolate=request.param) as vm:
        yield vm


ELSEWHERE: dict[str, tuple[str, Callable[[VM], object]]] = {
    "on_peek": ("stuck0.peek_here, being looked at", lambda vm: vm.devices["stuck0"].peek()),
    "inspect": ("stuck0.inspect, being looked at", lambda vm: vm.devices["stuck0"].peek()),
    "repr": ("stuck0.__repr__, being looked at", lambda vm: vm.devices["stuck0"].peek()),
    "command": ("stuck0.ask, in its command ask", lambda vm: vm.tell("stuck0", "ask")),
    "detached": ("stuck0.detached, being unplugged", lambda vm: vm.hot_remove("stuck0")),
    "attached": ("stuck0.attached, being plugged in", lambda vm: vm.hot_add(Stuck("attached"))),
    "reset": ("stuck0.reset, being reset", lambda vm: vm.reset()),
    "timed": (
        "stuck0.timed_here, in a timed call",
        lambda vm: vm.console.send(f"poke {FIRST + 4:#x} 1\n"),
    ),
    "irq_level": (
        "stuck0.irq_level, writing B",
        lambda vm: vm.console.send(f"poke {FIRST + 4:#x} 1\n"),
    ),
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_elsewhere_nothing_else_waits(vm: VM, where: str) -> None:
    named, use = ELSEWHERE[where]
    if where != "attached":
        vm.hot_add(Stuck(where))
    call = Call(lambda: use(vm))
    wait_named(vm, named)
    within(ANSWERS, vm.devices["com1"].peek)
    within(ANSWERS, lambda: vm.hot_add(Fine(), id="other"))
    within(ANSWERS, lambda: vm.replace("stuck0", Fine()))
    within(ANSWERS, vm.pause)
    within(ANSWERS, lambda: vm.hot_remove("stuck0", force=True))
    assert call.over(), "who called has an answer"
    assert vm.state.busy == ""
    assert "stuck0" not in vm.devices
    if "other" in vm.devices:
        vm.hot_remove("other", force=True)
    vm.resume()
    vm.console.run("", timeout=PATIENCE)
    assert peeked(vm, 0x1000) == 0


USES: dict[str, tuple[str, Callable[[VM], object]]] = {
    "attached": ("being plugged in", lambda vm: vm.hot_add(Stuck("attached"))),
    "detached": ("being unplugged", lambda vm: vm.hot_remove("stuck0")),
    "irq_level": ("being given B", lambda vm: setattr(vm.devices["stuck0"].r, "B", 1)),
    "inspect": ("being looked at", lambda vm: vm.devices["stuck0"].peek()),
}


@pytest.mark.kvm
@pytest.mark.parametrize("where", USES)
def test_who_called_it_has_an_answer_and_the_machine_lives(where: str) -> None:
    doing, use = USES[where]
    with monitor("kvm") as vm:
        if where != "attached":
            vm.hot_add(Stuck(where))
        began = time.monotonic()
        with pytest.raises(StateError, match=rf"busy in stuck0.{where}, {doing}.*force=True"):
            use(vm)
        assert time.monotonic() - began < ANSWERS + SLACK
        if where != "inspect":
            with pytest.raises(StateError, match=rf"busy in stuck0.{where}"):
                vm.hot_remove("stuck0") if where == "irq_level" else vm.reset()
        assert vm.state == "running"
        vm.hot_remove("stuck0", force=True)
        assert "stuck0" not in vm.devices
        assert vm.state.busy == ""
        vm.hot_add(Fine(), id="stuck0")
        assert peeked(vm, FIRST) == 0x600D
        vm.reset()
        vm.console.expect(PROMPT, PATIENCE)


@pytest.mark.kvm
def test_a_command_of_a_device_may_take_its_time() -> None:
    with monitor("kvm", devices=[Stuck("command", lambda: time.sleep(3.2))]) as vm:
        assert vm.tell("stuck0", "ask") is None


class Handles(VirtioDevice):
    type, device_id, queue_sizes = "virtio-stuck", 60, (8,)

    def handle(self, index: int, chain: Any) -> int:
        doze()
        return 0


def test_a_virtio_device_is_named_and_left() -> None:
    with Driver(Handles(), timeout=0.1) as driver:
        watch = Watch(lambda one: "stuck0" if one in (driver.device, driver.transport) else "")
        with watch:
            with pytest.raises(VmlabError):
                driver.request(0, [b"x"], [8])
            until(watch.words, seconds=NAMED + SLACK)
            assert watch.words().startswith("busy in stuck0.handle, serving queue 0, for ")
            assert watch.expel("stuck0", Taken)
            assert watch.words() == ""
        watch.close()
        assert not driver.needs_reset(), "whoever takes it out sees to the rest"


def test_a_start_that_does_not_end_is_named_and_stopped() -> None:
    require_kvm()
    vm = VM("monitor", engine="kvm", devices=[Stuck("attached")])
    call = Call(vm.start)
    wait_named(vm, "stuck0.attached, being plugged in")
    began = time.monotonic()
    vm.stop()
    assert time.monotonic() - began < STOPS + SLACK
    assert call.over()
    assert "could not be built" in str(call.error)


def test_a_slow_handler_is_not_stuck(engine: str) -> None:
    def slow() -> None:
        time.sleep(0.4)

    with monitor(engine, devices=[Stuck("read", slow)]) as vm:
        for _ in range(3):
            assert peeked(vm, FIRST) == 1
        assert vm.state.busy == ""
        vm.pause()
        assert vm.state == "paused"
