"""The way that everyone goes: run the cells, type, plug in, look, pull out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.browser.dashboard import Dashboard, start
from tests.browser.lab import Lab
from tests.support import ROOT
from tests.waiting import until


@pytest.mark.parametrize("notebook7", [False, True], ids=["lab", "notebook7"])
def test_the_way_that_everyone_goes(lab: Lab, engine: str, notebook7: bool) -> None:
    book, board = start(lab, f"way-{engine}-{notebook7}", engine, notebook7=notebook7)
    board.wait_state("running")
    assert book.text(0) == f"{engine}\n"
    assert {"com1", "timer0"} <= set(board.devices())

    board.command("peek 0xcf000000", "0xcf000000: 0x")
    board.wait_count("com1", "writes", 10)

    board.add("Dice", sides="20")
    board.row("dice0").wait_for()
    board.range("dice0").wait_for()
    board.command("peek 0xd0000000", "0xd0000000: 0x00000001")
    board.wait_count("dice0", "reads", 1)
    until(
        lambda: re.search("seen|driver_ok", board.cells("dice0")["state"]),
        "dice0 seen by the guest",
    )
    lab.shoot(f"dashboard-{engine}-{'notebook7' if notebook7 else 'lab'}")

    board.plugged("dice0").get_by_role("button", name="Remove dice0").click()
    board.row("dice0").wait_for(state="detached")
    board.range("dice0").wait_for(state="detached")
    assert book.ask("list(vm.devices)").count("dice0") == 0


def test_the_first_notebook_in_notebook_7(lab: Lab) -> None:
    path = Path(shutil.copy(ROOT / "notebooks" / "01-first-vm.ipynb", lab.server.books))
    cells = json.loads(path.read_text("utf-8"))["cells"]
    shown = next(number for number, one in enumerate(cells) if one["source"] == ["vm"])
    book = lab.open(path.name, notebook7=True)
    book.run(*(number for number in range(shown + 1) if cells[number]["cell_type"] == "code"))
    board = Dashboard(book, shown).wait()
    board.wait_state("running")
    assert re.search(r"exits/s.*traps/s", board.part("Controls").text_content() or "")
    board.command("peek 0xcf000000", "0xcf000000: 0x")
    board.wait_count("timer0", "reads", 1)
    lab.shoot("notebook7-01")


def test_a_device_says_in_words_why_it_cannot_be_added(lab: Lab) -> None:
    book, board = start(lab, "words")
    board.add("Dice", id="com1")
    board.notice("com1").first.wait_for()
    assert board.devices().count("com1") == 1
    board.add("Dice", id="dice", sides="many")
    board.notice("sides").first.wait_for()
    assert "dice" not in board.devices()
    board.add("Dice", id="dice", sides="8")
    board.row("dice").wait_for()
    assert book.ask("vm.devices['dice'].peek('sides')") == 8


def test_registers_are_shown_by_name(lab: Lab) -> None:
    book, board = start(lab, "registers")
    book.run_new("vm.hot_add(Dice())")
    board.row("dice0").wait_for()
    board.open("dice0")
    until(
        lambda: board.registers("dice0").get("SIDES", "").endswith("0006"), "SIDES, 6 by its reset"
    )
    board.command("poke 0xd0000004 20", "vmlab> poke")
    until(
        lambda: board.registers("dice0")["SIDES"].endswith("0014"), "SIDES, which the guest has set"
    )
    # ROLL counts its reads: to look at it is no read
    assert book.ask("vm.devices['dice0'].peek('rolls')") == 0


def test_the_machine_obeys_its_buttons(lab: Lab) -> None:
    book, board = start(lab, "buttons")
    board.command("spin", "until a key")  # one that waits for a key has no step to make
    board.button("Pause").click()
    board.wait_state("paused")
    before = book.ask("vm.cpus[0].regs['rip']")
    board.button("Step").click()
    until(lambda: book.ask("vm.cpus[0].regs['rip']") != before, "a step")
    board.button("Resume").click()
    board.wait_state("running")
    board.type("x")  # ends the spinning
    board.command("peek 0xcf000000", "0xcf000000: 0x")
    board.button("Stop").click()
    board.wait_state("stopped")
    board.button("Start again").click()
    board.wait_state("running")
    board.wait_text("vmlab>")
