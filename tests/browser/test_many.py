"""More than one: views of a machine, machines, notebooks, pages."""

from __future__ import annotations

import re

from tests.browser.dashboard import MACHINE, Dashboard, box_of, start
from tests.browser.lab import Browser, Lab
from tests.waiting import until

ARRANGED = """
from ipywidgets import HBox, VBox
left, right = vm.map_view(), vm.trap_view()
left.layout.flex, right.layout.flex = "1 1 30%", "1 1 70%"
VBox([vm.controls_view(), HBox([left, right]), vm.console_view(height=200)])
"""


def test_a_view_shown_twice_agrees_with_itself(lab: Lab) -> None:
    book, first = start(lab, "twice", show="view = vm.lab(height=420); view")
    number = book.run_new("view")
    second = Dashboard(book, number).wait()
    second.command("peek 0xcf000000", "0xcf000000: 0x")
    first.wait()
    until(lambda: first.lines() == second.lines(), "the same text in both")
    until(lambda: first.cells("com1") == second.cells("com1"), "the same numbers in both")
    first.type("# one")
    second.wait()
    second.type(", two")
    second.wait_text("vmlab> # one, two")
    first.wait()
    first.wait_text("vmlab> # one, two")


def test_single_views_work_alone(lab: Lab) -> None:
    views = {
        "controls_view()": "Controls",
        "map_view()": "Address map",
        "trap_view()": "Devices",
        "irq_view()": "Interrupt lines",
        "hotplug_view()": "Hot-plug",
        "log_view()": "Device log",
        "regs_view('com1')": "Registers",
        "console_view()": "Serial console",
    }
    cells = [MACHINE.format(engine="auto"), *(f"vm.{one}" for one in views)]
    book = lab.open(lab.server.write("alone.ipynb", cells))
    book.run()
    for number, name in enumerate(views.values(), 1):
        book.cell(number).locator(".vml").scroll_into_view_if_needed()
        book.cell(number).get_by_role("region", name=name).wait_for()
    console = Dashboard(book, len(views))
    console.command("peek 0xcf000000", "0xcf000000: 0x")
    lab.shoot("views")
    # each says that the machine has ended; one that is first seen then shows what there was last
    late = book.run_new("vm.stop(); late = vm.regs_view('com1'); late")
    for number, name in enumerate(views.values(), 1):
        book.cell(number).locator(".vml").scroll_into_view_if_needed()
        where = ".vml-word" if name == "Controls" else ".vml-notice"
        book.cell(number).locator(where, has_text="stopped").wait_for()
    book.cell(late).locator(".vml").scroll_into_view_if_needed()
    book.cell(late).locator(".vml-notice", has_text="stopped").wait_for()
    line = book.cell(late).locator("table.vml-regs tr", has_text="LSR")
    line.locator("td", has_text=re.compile("^0x..$")).wait_for()


def test_views_are_arranged_by_ipywidgets_and_know_of_each_other(lab: Lab) -> None:
    book = lab.open(lab.server.write("arranged.ipynb", [MACHINE.format(engine="auto"), ARRANGED]))
    book.run()
    cell = book.cell(1)
    cell.get_by_role("region", name="Controls").scroll_into_view_if_needed()
    cell.get_by_role("button", name=re.compile("; com1,")).click()
    cell.locator("tr[aria-selected=true]", has_text="com1").wait_for()
    boxes = [box_of(cell.get_by_role("region", name=name)) for name in ("Address map", "Devices")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"] + 1, "side by side"
    cell.get_by_role("button", name="Pause").click()
    cell.get_by_role("button", name="Step").click()
    halted = cell.locator(".vml-answer", has_text="the CPU is halted")
    halted.wait_for()
    lab.shoot("arranged")
    cell.get_by_role("button", name="Resume").click()
    halted.wait_for(state="hidden")
    until(lambda: book.ask("vm.state") == "running", "the machine resumed")


def test_two_notebooks_have_a_machine_each(lab: Lab, browser: Browser) -> None:
    _, one = start(lab, "first")
    other = browser.page(lab.server)
    try:
        _, two = start(other, "second")
        one.command("poke 0x300000 0x1111", "vmlab> poke")
        two.command("poke 0x300000 0x2222", "vmlab> poke")
        two.command("peek 0x300000", "0x00300000: 0x00002222")
        lab.page.bring_to_front()
        one.command("peek 0x300000", "0x00300000: 0x00001111")
        other.check()
    finally:
        other.page.close()


def test_two_pages_show_one_notebook(lab: Lab, browser: Browser) -> None:
    _, one = start(lab, "shared")
    lab.command("docmanager:save")
    other = browser.page(lab.server)
    try:
        book = other.open("shared.ipynb")
        two = Dashboard(book, 2).wait()
        two.command("peek 0xcf000000", "0xcf000000: 0x")
        lab.page.bring_to_front()
        one.wait_text("0xcf000000: 0x")
        other.check()
    finally:
        other.page.close()
