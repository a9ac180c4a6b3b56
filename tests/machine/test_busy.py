"""Whose code a thread is in, read off its stack."""

from __future__ import annotations

import importlib
import sys
import threading
import time

import pytest

from tests.waiting import until
from vmlab import Device, Registers, on_read, ro
from vmlab.core.bus import Bus
from vmlab.core.patience import Patient, Taken, holding, taken, waited
from vmlab.errors import StateError
from vmlab.machine import stacks
from vmlab.machine.busy import LONG, TICK, Watch


@pytest.mark.parametrize("name", [*stacks.CALLERS, *stacks._NAMING])
def test_every_function_that_is_known_by_name_exists(name: str) -> None:
    path, _, where = name.partition(":")
    found: object = importlib.import_module("vmlab." + path.removesuffix(".py").replace("/", "."))
    for part in where.split("."):
        found = getattr(found, part)
    code = found.__code__  # type: ignore[attr-defined]
    assert stacks._key(code) == (name, True)
    if name in stacks._NAMING:
        assert stacks._NAMING[name] in code.co_varnames


class Held(Device):
    class regs(Registers):
        A = ro(0, "a")

    def __init__(self) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()

    @on_read("A")
    def hold(self) -> int:
        self.inside.set()
        self.go_on.wait()
        return 1


@pytest.fixture
def held() -> Held:
    return Held()


def reading(held: Held) -> tuple[Bus, threading.Thread]:
    bus = Bus()
    bus.insert(0, 0x1000, held, name="held0")
    thread = threading.Thread(target=bus.read, args=(0, 4), daemon=True)
    thread.start()
    assert held.inside.wait(10)
    return bus, thread


def test_a_call_is_told_once_it_takes_long_and_when_it_is_over(held: Held) -> None:
    bus, thread = reading(held)
    told: list[list[str]] = []
    watch = Watch(lambda one: "")
    watch.owners.append(bus)
    watch.on_change = lambda calls: told.append([call.where for call in calls])
    began = time.monotonic()
    with watch:
        while not told:
            time.sleep(0.01)
        assert LONG <= time.monotonic() - began < LONG + 2 * TICK + 3
        held.go_on.set()
        thread.join()
        while len(told) < 2:
            time.sleep(0.01)
    watch.close()
    assert told == [["busy in held0.hold, reading A"], []]


def test_calls_of_another_machine_are_not_its_own(held: Held) -> None:
    _, thread = reading(held)
    watch = Watch(lambda one: "")
    for _ in range(2):
        watch.look()
    assert watch._seen == {}
    held.go_on.set()
    thread.join()


def test_nothing_is_looked_at_while_nothing_runs() -> None:
    looks = []
    watch = Watch(lambda one: "")
    watch._look = lambda: looks.append(1)  # type: ignore[method-assign]
    with watch:
        time.sleep(3 * TICK)
    until(lambda: not watch._wanted.is_set())
    count = len(looks)
    time.sleep(2 * TICK)
    assert len(looks) == count
    watch.close()
    assert not [one for one in threading.enumerate() if one.name == "vmlab-busy"]


def test_a_stack_without_any_device() -> None:
    assert stacks.place(sys._getframe()) is None


def test_waiting_ends_when_somebody_is_to_blame() -> None:
    assert waited(lambda seconds: True, lambda: "somebody") == ""
    began = time.monotonic()
    assert waited(lambda seconds: bool(time.sleep(seconds)), lambda: "somebody") == "somebody"
    assert time.monotonic() - began >= 2


def test_locks_that_say_who_holds_them() -> None:
    lock, patient = threading.Lock(), Patient(lambda: "busy in x", "not now")
    lock.acquire()
    with (
        pytest.raises(StateError, match="not now: busy in x"),
        holding(lock, lambda: "busy in x", "not now"),
    ):
        pass
    lock.release()
    with holding(lock, lambda: "", ""), patient, patient:
        assert lock.locked()
    holder = threading.Thread(target=lambda: (patient.__enter__(), time.sleep(3)), daemon=True)
    holder.start()
    time.sleep(0.2)
    with pytest.raises(StateError, match="not now: busy in x"), patient:
        pass


def _cleans_up_badly() -> None:
    try:
        raise Taken
    finally:
        raise KeyError("clean-up")


def test_what_became_of_an_expulsion_on_its_way_out() -> None:
    with pytest.raises(KeyError) as caught:
        _cleans_up_badly()
    assert taken(caught.value)
    assert taken(Taken())
    assert not taken(KeyError())
