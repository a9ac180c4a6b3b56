"""What views show of a machine that has ended, and of a page without a kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.notebook.page import ManualPump, Page
from tests.support import require_module
from tests.vms import FIRST, Dice, monitor
from vmlab import VM, Device, Registers, on_peek, ro, rw

require_module("anywidget")

from vmlab.notebook import html
from vmlab.notebook.meter import Meter
from vmlab.notebook.registers import RegistersView
from vmlab.notebook.snapshot import Snapshots
from vmlab.vm.rates import Sampler


class Held(Device):
    """Keeps its line up."""

    class regs(Registers):
        A = rw(0x00, "a value", reset=6)
        WRONG = ro(0x04, "raises")

    def __init__(self, wrong: bool = False) -> None:
        self.wrong = wrong

    @on_peek("WRONG")
    def look(self) -> int:
        if self.wrong:
            raise ValueError("no")
        return 1

    def irq_level(self) -> bool:
        return True


@pytest.fixture
def stopped(engine: str) -> Iterator[VM]:
    with monitor(engine, devices=[Held(), Dice(), Held(wrong=True)]) as vm:
        vm.console.run(f"poke {FIRST:#x} 0x4d", timeout=20)
        yield vm


def test_register_values_that_nobody_saw_before(stopped: VM) -> None:
    stopped.stop()
    view = RegistersView(stopped, "held0", pump=ManualPump())
    Page(view).arrive()
    view.refresh()
    rows = view.snapshot["registers"]["held0"]["rows"]
    assert [row["value"] for row in rows] == ["0x0000_004d", "0x0000_0001"]
    assert view.snapshot["machine"]["state"] == "stopped"
    view.close()


def test_what_ended_has_no_rate_and_no_line_up(stopped: VM) -> None:
    now = 100.0
    watch = Snapshots(stopped, lambda: now)
    sampler = Sampler(stopped.inspection)
    watch.look()
    stopped.console.run(f"peek {FIRST:#x}", timeout=20)
    now += 0.1
    look = watch.look()
    assert look.machine["exits"] > 0
    assert any(row["level"] for row in look.irqs)
    stopped.stop()
    now += 0.1
    look = watch.look()
    assert (look.machine["exits"], look.machine["rate"]) == (0, 0)
    assert {row["rate"] for row in look.devices} == {0}
    assert not any(row["level"] for row in look.irqs)
    sample = sampler.sample()
    assert (sample.total, sample.exits, set(sample.rates.values())) == (0, 0, {0})


def test_a_rate_does_not_outlive_a_pause_in_looking(stopped: VM) -> None:
    now = 100.0
    watch = Snapshots(stopped, lambda: now)
    watch.look()
    stopped.console.run(f"peek {FIRST:#x}", timeout=20)
    now += 0.1
    assert watch.look().machine["exits"] > 0
    stopped.pause()
    now += 60
    assert watch.look().machine["exits"] == 0


def test_a_meter_that_is_halted() -> None:
    meter = Meter()
    meter.take(0.0, 0, 0.0)
    meter.take(0.6, 100, 0.5)
    assert meter.rate
    meter.halt()
    assert meter.rate == 0
    meter.take(0.7, 100, 0.6)
    assert meter.rate == 0


def test_the_page_without_a_kernel_has_console_and_picture(stopped: VM) -> None:
    stopped.pause()
    page = html.page(stopped)
    assert "vmlab monitor; help lists the commands" in page
    assert re.search(r"<svg [^>]*role=\"img\".*</svg>", page)
    assert "dice0, 4 KiB" in page
    assert page.count("<table>") == 3
    assert page == html.page(stopped)
    for view, word in ((stopped.map_view(), "<svg"), (stopped.console_view(), "help lists")):
        assert word in view._repr_html_()
        view.close()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]0;a title\x1b\\text", "text"),
        ("a\x1bMb\x00\x07c\r\n", "abc\n"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("", " "),
    ],
)
def test_what_a_console_says_is_no_order(said: str, shown: str) -> None:
    assert html.console_text(said).endswith(f'">{shown}</pre>')


def test_two_machines_are_told_apart(engine: str) -> None:
    made: list[Any] = [VM("monitor", engine=engine) for _ in range(2)]
    named = VM("hello", engine=engine, name="my <guest>")
    names = [one.name for one in made]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"monitor(-\d+)?", name) for name in names)
    assert repr(named).startswith("<VM my <guest>: created")
    assert "my &lt;guest&gt;" in html.title(named)
    assert Snapshots(named).look().machine["name"] == "my <guest>"
    for one in (*made, named):
        one.stop()
    again = VM("monitor", engine=engine)
    assert again.name in names, "a name is free again when its machine has ended"
    again.stop()
