"""What the views show, without a browser."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.notebook.page import ManualPump, Page
from tests.support import require_module
from tests.vms import Counter, Dice, monitor
from tests.waiting import until
from vmlab import VM
from vmlab.errors import DeviceNotFound

require_module("anywidget")

from vmlab.notebook.lab import Lab, lab_of
from vmlab.notebook.map import MapView
from vmlab.notebook.meter import two_digits
from vmlab.notebook.pump import PUMP
from vmlab.notebook.registers import RegistersView
from vmlab.notebook.snapshot import Snapshots
from vmlab.notebook.traps import TrapView

SINGLE = ["controls_view", "map_view", "irq_view", "trap_view", "console_view", "hotplug_view"]
NAMES = [*SINGLE, "log_view", "lab"]


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with monitor(engine) as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_each_view_has_a_snapshot_for_json_a_repr_and_a_fallback(vm: VM, name: str) -> None:
    view = getattr(vm, name)()
    try:
        assert json.loads(json.dumps(view.snapshot))["machine"]["state"] == "running"
        assert repr(view) == f"<{type(view).__name__} of VM monitor: running>"
        data, _ = view._repr_mimebundle_()
        assert data["text/plain"] == repr(view)
        assert data["text/html"] == view._repr_html_()
        assert "application/vnd.jupyter.widget-view+json" in data
    finally:
        view.close()
    assert repr(view) == f"<{type(view).__name__} of VM monitor: closed>"
    view.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_keyword_is_a_type_error(vm: VM, name: str) -> None:
    with pytest.raises(TypeError, match="colour"):
        getattr(vm, name)(colour="red")


def test_the_same_machine_gives_the_same_snapshot(engine: str) -> None:
    def shown() -> dict[str, Any]:
        with monitor(engine) as vm:
            vm.console.run("peek 0xcf000000")
            vm.pause()
            view = TrapView(vm, pump=ManualPump())
            # how fast it went is the host's affair
            rows = [{**row, "rate": 0, "bars": []} for row in view.snapshot["devices"]]
            machine = {**view.snapshot["machine"], "rate": 0}
            view.close()
            return {"devices": rows, "machine": machine}

    first, second = shown(), shown()
    # the UART's input may come in one piece or in several: only its counts may differ by a poll
    for one in (first, second):
        one["devices"] = [row for row in one["devices"] if row["id"] != "com1"]
    assert first == second


def test_the_fallback_of_the_dashboard_is_deterministic(engine: str) -> None:
    pages = []
    for _ in range(2):
        vm = VM(kernel="monitor", engine=engine)
        assert "com1" in vm.devices
        pages.append(lab_of(vm)._repr_html_())
        lab_of(vm).close()
        vm.stop()
    assert pages[0] == pages[1]
    assert "0xcf00_0000" in pages[0]


def test_a_device_that_comes_is_seen_and_one_that_goes_is_not(vm: VM) -> None:
    view = MapView(vm, pump=(pump := ManualPump()))
    assert pump.views == [view]
    Page(view).arrive()
    vm.hot_add(Dice(), id="dice0")

    def names() -> list[str]:
        view.refresh()
        return [one["name"] for one in view.snapshot["map"]]

    until(lambda: "dice0" in names(), "the device in the map")
    dice = next(one for one in view.snapshot["devices"] if one["id"] == "dice0")
    assert (dice["type"], dice["base"], dice["irq"]) == ("dice", 0xD000_0000, None)
    vm.hot_remove("dice0", force=True)
    until(lambda: "dice0" not in names(), "the device gone from the map")
    view.close()


def test_nothing_is_sent_while_nothing_happens(vm: VM) -> None:
    view = TrapView(vm, pump=ManualPump())
    vm.pause()
    watch: Snapshots = view._watch
    # as if it had been idle for as long as the past that is shown
    now = [1000.0]
    watch._time = lambda: now[0]
    for _ in range(400):
        now[0] += 0.1
        view.refresh()
    sent: list[Any] = []
    view.observe(sent.append, "snapshot")
    for _ in range(50):
        now[0] += 0.1
        view.refresh()
    assert not sent
    view.close()


def test_registers_are_read_by_name_with_fields_and_last_access(vm: VM) -> None:
    vm.hot_add(Counter(), id="c")
    view = RegistersView(vm, "c", pump=ManualPump())
    Page(view).arrive()

    def row(name: str) -> dict | None:  # type: ignore[type-arg]
        view.refresh()
        rows = view.snapshot["registers"].get("c", {"rows": []})["rows"]
        return next((one for one in rows if one["name"] == name and one["value"]), None)

    until(lambda: row("COUNT"), "a value by peek")
    vm.console.run("poke 0xd0000000 1")
    until(lambda: row("COUNT")["value"] == "0x0000_0002", "the new value")  # type: ignore[index]
    assert row("COUNT")["last"].startswith("written at ")  # type: ignore[index]
    assert (row("COUNT")["writes"], row("COUNT")["access"]) == (1, "rw")  # type: ignore[index]
    view.close()
    com1 = vm.regs_view("com1")
    Page(com1).arrive()

    def fields() -> list[str]:
        com1.refresh()
        rows = com1.snapshot["registers"].get("com1", {"rows": []})["rows"]
        return [bits["name"] for one in rows if one["name"] == "LSR" for bits in one["fields"]]

    assert "THRE" in until(fields, "the fields of LSR")
    com1.close()


def test_exits_a_second_come_from_the_shared_counters(vm: VM) -> None:
    view = TrapView(vm, pump=ManualPump())
    now = [1000.0]
    view._watch._time = lambda: now[0]
    view._watch._before, view._watch._mark = 0.0, None
    view.refresh()
    assert view.snapshot["machine"]["exits"] == 0

    def exits() -> int:
        return vm.connection.observation.exit_count

    before = exits()
    vm.console.run("peek 0xcf000000")
    vm.pause()
    now[0] += 0.5
    view.refresh()
    assert exits() == sum(vm.exits.values())
    assert view.snapshot["machine"]["exits"] == two_digits((exits() - before) / 0.5)
    vm.stop()
    assert exits() == sum(vm.exits.values()) > before
    view.close()


def test_registers_of_no_device(vm: VM) -> None:
    with pytest.raises(DeviceNotFound, match="'nope'"):
        vm.regs_view("nope")


def test_opening_registers_in_one_view_is_not_shown_in_another(vm: VM) -> None:
    one = TrapView(vm, pump=ManualPump())
    two = RegistersView(vm, "timer0", pump=ManualPump())
    Page(one).arrive().say("open", ids=["com1", "timer0"])
    Page(two).arrive()
    until(lambda: (one.refresh(), "com1" in one.snapshot["registers"])[1], "registers of com1")
    two.refresh()
    assert set(two.snapshot["registers"]) <= {"timer0"}
    for view in (one, two):
        view.close()
    assert not one._watch.opened


def test_a_selection_is_everywhere(vm: VM) -> None:
    one, two = MapView(vm, pump=ManualPump()), TrapView(vm, pump=ManualPump())
    Page(one).arrive().say("select", id="com1")
    two.refresh()
    assert two.snapshot["selected"] == "com1"
    one.close()
    two.close()


def test_a_view_does_not_keep_its_vm(engine: str) -> None:
    vm = VM(kernel="monitor", engine=engine)
    vm.start()
    pid, found = vm.pid, weakref.ref(vm)
    views = [vm.lab(), vm.map_view(), vm.console_view()]
    for view in views:
        Page(view).arrive()
    del vm
    until(lambda: (gc.collect(), found() is None)[1], "the VM collected")
    assert pid is not None
    for view in views:
        view.refresh()
        view.flush()
        assert view.snapshot["machine"]["state"] == "gone"
        assert "its VM is gone" in repr(view)
        assert "gone" in view._repr_html_()
        view.close()


def test_a_view_outlives_the_machine_s_end(vm: VM) -> None:
    view = Lab(vm)
    Page(view).arrive()
    vm.console.send("exit 3\n")
    vm.wait(10)
    until(lambda: view.snapshot["machine"]["state"] == "stopped", "the end on the page")
    assert "status 7" in view.snapshot["machine"]["reason"]
    vm.stop()
    view.refresh()
    assert view.snapshot["devices"]
    view.close()


def test_the_pump_ends_with_the_last_view(vm: VM) -> None:
    view = vm.map_view()
    assert PUMP.alive
    view.close()
    until(lambda: not PUMP.alive, "the pump's end")


def test_a_bare_vm_shows_one_dashboard_in_a_notebook_and_text_elsewhere(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vm._repr_mimebundle_() == {"text/plain": repr(vm)}
    monkeypatch.setattr("vmlab.vm.connection.in_notebook", lambda: True)
    first, _ = vm._repr_mimebundle_()
    second, _ = vm._repr_mimebundle_()
    assert first == second
    assert first["text/plain"] == repr(vm)
    lab_of(vm).close()
    assert lab_of(vm)._repr_mimebundle_()[0] != first
    lab_of(vm).close()


def test_the_clock_stands_still_after_the_end(vm: VM) -> None:
    vm.stop()
    before = vm.uptime
    assert before > 0
    assert vm.uptime == before
    view = TrapView(vm, pump=ManualPump())
    assert view.snapshot["clock"] == round(before, 1)
    view.close()
