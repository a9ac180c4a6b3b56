"""What views say of a machine that has ended, is held up, or has failed; and the device log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.notebook.page import ManualPump, Page
from tests.support import require_module
from tests.vms import Broken, Counter, Dice, monitor
from tests.waiting import until
from vmlab import VM

require_module("anywidget")

from vmlab.notebook import forms
from vmlab.notebook.irq import IrqView
from vmlab.notebook.lab import Lab
from vmlab.notebook.log import LogView
from vmlab.notebook.pump import IDLE, SELDOM, Pump
from vmlab.notebook.registers import RegistersView
from vmlab.notebook.snapshot import ENTRIES
from vmlab.notebook.traps import TrapView
from vmlab.vm.device_log import LogEntry
from vmlab.vm.state import State


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with monitor(engine) as made:
        yield made


def shown(view: Any) -> dict[str, Any]:
    view.refresh()
    return view.snapshot["machine"]  # type: ignore[no-any-return]


def test_rates_are_0_once_it_has_ended(vm: VM) -> None:
    view = TrapView(vm, pump=ManualPump())
    Page(view).arrive()
    until(lambda: (vm.console.run("peek 0xcf000000"), shown(view)["exits"] > 0)[1], "a rate")
    vm.stop()
    now = shown(view)
    assert (now["state"], now["rate"], now["exits"]) == ("stopped", 0, 0)
    assert {one["rate"] for one in view.snapshot["devices"]} == {0}
    view.close()


def test_rates_that_nobody_has_looked_at_meanwhile_are_0(vm: VM) -> None:
    view = TrapView(vm, pump=ManualPump())
    now = [1000.0]
    view._watch._time = lambda: now[0]
    Page(view).arrive()
    for _ in range(4):
        now[0] += 0.3
        vm.console.run("peek 0xcf000000")
        view.refresh()
    assert view.snapshot["machine"]["exits"] > 0
    vm.pause()
    view.refresh()
    now[0] += 60  # off the screen
    assert shown(view)["exits"] == 0
    view.close()


def test_registers_first_looked_at_after_the_end_are_the_last(vm: VM) -> None:
    vm.hot_add(Counter(), id="c")
    vm.console.run("poke 0xd0000000 1")
    vm.console.run("poke 0xd0000000 1")
    vm.stop()
    view = RegistersView(vm, "c", pump=ManualPump())
    Page(view).arrive()
    assert shown(view)["state"] == "stopped"
    rows = {one["name"]: one["value"] for one in view.snapshot["registers"]["c"]["rows"]}
    assert rows == {"COUNT": "0x0000_0002", "RAISE": "0x0000_0000"}
    view.close()


def test_a_device_that_answers_no_more_does_not_hold_up_the_end(vm: VM) -> None:
    class Stuck(Dice):
        def inspect(self) -> dict[str, Any]:
            import time

            time.sleep(30)
            return {}

    vm.hot_add(Stuck(), id="stuck")
    before = time.monotonic()
    vm.stop()
    assert time.monotonic() - before < 4
    assert "stuck" not in vm.connection.observation.last_values


def test_what_holds_up_a_machine_is_said_by_the_bar(vm: VM) -> None:
    view = TrapView(vm, pump=ManualPump())
    assert shown(view)["busy"] == ""
    state = State("running")
    state.busy = "busy in looper0.spin_here, reading A, for 3 s"
    vm.connection.set_state(state)
    assert shown(view)["busy"] == "busy in looper0.spin_here, reading A, for 3 s"
    view.close()


def test_two_machines_are_told_apart_by_their_names(engine: str) -> None:
    titles = []
    for name in ("left", "right"):
        made = named(name, kernel="monitor", engine=engine)
        view = IrqView(made, pump=ManualPump())
        machine = view.snapshot["machine"]
        titles.append((machine["name"], machine["kernel"]))
        view.close()
        made.stop()
    assert titles == [("left", "monitor"), ("right", "monitor")]


def named(name: str, **options: Any) -> VM:
    return VM(name=name, **options)


def test_how_far_the_guest_is_is_one_word(vm: VM) -> None:
    vm.hot_add(Dice(), id="dice0")
    vm.console.run("peek 0xd0000000")
    view = TrapView(vm, pump=ManualPump())
    view.refresh()
    words = {one["id"]: one["state"] for one in view.snapshot["devices"]}
    assert words == {id: one.state for id, one in vm.devices.items()}
    assert words == {id: one.progress for id, one in vm.traps.items()}
    view.close()


# --- commands -------------------------------------------------------------------------------------------


def test_a_machine_that_does_not_answer_can_be_stopped(vm: VM) -> None:
    view = Lab(vm)
    page, hold, stopped = Page(view).arrive(), threading.Event(), []
    view.do(None, lambda _: hold.wait(30), lane="do")
    page.say("do", action="pause", of="pause")
    page.say("do", action="stop", of="stop")
    stopped = until(lambda: [one for one in page.heard("done") if one["of"] == "stop"], "the end")
    assert stopped[0]["what"] == "do"
    assert vm.state == "stopped"
    hold.set()
    # what was asked before is answered as well, under its name
    until(lambda: [one for one in page.heard("trouble") if one["of"] == "pause"], "the answer")
    view.close()


def test_every_command_is_answered_under_the_name_that_the_page_gave_it(vm: VM) -> None:
    view = Lab(vm)
    page = Page(view).arrive()
    page.say("do", action="explode", of="x")
    page.say("add", name="dice", id="a b<c>", options={}, of="add")
    page.say("remove", id="", of="remove ")
    page.say("replace", id="nope", of="replace nope")
    page.say("replace", id="nope", of="replace nope", panel=True)
    until(lambda: len(page.heard("trouble")) == 5, "five answers")
    assert {(one["of"], one["what"]) for one in page.heard("trouble")} == {
        ("x", "do"),
        ("add", "hotplug"),
        ("remove ", "hotplug"),
        ("replace nope", "do"),
        ("replace nope", "hotplug"),
    }
    assert any("letters, digits" in one["text"] for one in page.heard("trouble"))
    assert "a b<c>" not in vm.devices
    view.close()


def test_a_device_that_failed_is_replaced_and_the_guest_goes_on(vm: VM) -> None:
    """By a `replace` that finds the newest class itself; the guest gets its answer."""
    whole = vm.replace
    vm.replace = lambda id, device=None: whole(id, device or Dice())  # type: ignore[assignment, method-assign, misc]
    vm.hot_add(Broken(), id="b")
    view = TrapView(vm)
    page = Page(view).arrive()
    vm.console.send("peek 0xd0000000\n")
    until(lambda: vm.state.fault, "the failure")
    assert shown(view)["fault"] == "b"
    page.say("replace", id="b", of="replace b")
    until(lambda: "0xd0000000: 0x00000001" in vm.console.text, "what the guest read")
    until(lambda: page.heard("done"), "the answer")
    assert shown(view)["fault"] == ""
    view.close()


# --- the log --------------------------------------------------------------------------------------------


def test_the_newest_of_the_device_log_are_shown(vm: VM) -> None:
    for n in range(ENTRIES + 5):
        vm.log.add(LogEntry(0.1 * n, "d0", "print", f"line {n}"))
    view = LogView(vm, pump=ManualPump())
    log = view.snapshot["log"]
    assert log["total"] == ENTRIES + 5
    assert [one["text"] for one in log["entries"]] == [f"line {n}" for n in range(5, ENTRIES + 5)]
    vm.log.add(LogEntry(9.0, "d0", "fault", "x" * 100_000))
    assert view.refresh()
    last = view.snapshot["log"]["entries"][-1]
    assert (last["kind"], last["number"], len(last["text"])) == ("fault", ENTRIES + 5, 1000)
    assert not view.refresh()
    assert "line 7" in view._repr_html_()
    view.close()


# --- forms ----------------------------------------------------------------------------------------------


def test_a_form_offers_the_texts_that_an_argument_takes() -> None:
    by_name = {one["name"]: one for one in forms.choices({})}
    notify = next(one for one in by_name["console"]["fields"] if one["name"] == "notify")
    assert notify["choices"] == ("ioeventfd", "trap")
    assert by_name["disk"]["base"] == "disk"
    # what it is filled with makes a device
    for one in by_name.values():
        filled = {field["name"]: field["filled"] for field in one["fields"] if field["filled"]}
        if not any(field["required"] for field in one["fields"]):
            assert forms.build(forms.find(one["name"], {}), filled)


def test_the_notebook_s_classes_are_looked_at_again_only_when_they_changed(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    names: dict[str, Any] = {"Dice": Dice}
    monkeypatch.setattr("vmlab.notebook.forms.namespace", lambda: names)
    monkeypatch.setattr("vmlab.notebook.hotplug.CLASSES_EVERY", 0.0)
    made = VM(kernel="monitor", engine=engine)
    view = made.hotplug_view()
    first = view.snapshot["choices"]
    view.refresh()
    assert view._choices is first
    names["Counter"] = Counter
    view.refresh()
    assert "Counter" in [one["name"] for one in view.snapshot["choices"]]
    view.close()
    made.stop()


# --- the pump -------------------------------------------------------------------------------------------


class Idle:
    """A view that has news when told so."""

    watched, news = True, False

    def __init__(self) -> None:
        self.looks = 0

    def refresh(self) -> bool:
        self.looks += 1
        return self.news

    def flush(self) -> None:
        """Nothing waits."""


def test_where_nothing_happens_it_looks_less_often() -> None:
    pump, view, now = Pump(clock=lambda: now[0]), Idle(), [100.0]
    pump._views.add(view)
    pump._news = now[0]

    def run(seconds: float) -> int:
        before, end = view.looks, now[0] + seconds
        while now[0] < end:
            now[0] += pump._turn() or 0.0
        return view.looks - before

    assert run(IDLE) >= 25
    assert run(10) <= 10 / SELDOM + 1
    pump.wake()
    assert run(1) >= 9
    view.news = True
    assert run(10) >= 90
