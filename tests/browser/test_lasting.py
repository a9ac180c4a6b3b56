"""What a page keeps, and what it says when it cannot: reload, restart, the end of a machine."""

from __future__ import annotations

from tests.browser.dashboard import Dashboard, start
from tests.browser.lab import Lab
from tests.waiting import until


def test_a_reload_finds_everything_again(lab: Lab) -> None:
    book, board = start(lab, "reload")
    book.run_new("vm.hot_add(Dice())")
    board.row("dice0").wait_for()
    board.command("peek 0xd0000000", "0xd0000000: 0x00000001")
    # more than a screen of it, so that what comes back is scrollback
    board.command("help", "Ctrl-U clears the line")
    writes = board.number("com1", "writes")

    book = lab.reload()
    board = Dashboard(book, 2).wait()
    board.wait_state("running")
    board.wait_text("Ctrl-U clears the line")
    board.row("dice0").wait_for()
    assert board.number("com1", "writes") >= writes
    board.scroll_up()
    board.wait_text("0xd0000000: 0x00000001")
    # and it is as alive as before
    board.command("peek 0xd0000000", "0xd0000000: 0x00000002")
    board.wait_count("dice0", "reads", 2)


def test_a_restarted_kernel_is_told_of(lab: Lab) -> None:
    book, board = start(lab, "restart")
    lab.allowed += ["Widget model not found", "Error during widget restart"]
    # what JupyterLab asks every fresh kernel, and may ask the one that goes
    lab.allowed += ["Could not restore the debugger state"]
    book.restart()
    board.notice("restarted").wait_for(timeout=30_000)
    # nothing looks alive: no state, no colour, nothing to press that would do something
    assert board.state == "no kernel"
    assert board.root.locator(".vml-buttons").get_by_role("button").all_text_contents() == [
        "Hot-plug"
    ]
    lamp = board.root.locator(".vml-state svg path")
    assert lamp.evaluate("lamp => getComputedStyle(lamp).fill") == board.root.locator(
        ".vml-engine"
    ).evaluate("one => getComputedStyle(one).color")
    assert "grayscale" in board.part("Controls").locator("xpath=..").evaluate(
        "one => getComputedStyle(one).filter"
    )
    lab.shoot("restarted")
    book.run()
    board.wait()
    board.wait_state("running")
    board.command("peek 0xcf000000", "0xcf000000: 0x")


def test_a_stopped_machine_is_shown_as_such(lab: Lab) -> None:
    book, board = start(lab, "stopped")
    book.run_new("vm.stop()")
    board.wait_state("stopped")
    assert board.number("com1", "writes") > 10
    assert board.button("Start again").is_visible()


def test_a_guest_that_ends_says_why(lab: Lab) -> None:
    book, board = start(lab, "exits")
    board.wait_text("vmlab>")
    board.type("exit 3\n")
    board.wait_state("stopped")
    reason = book.ask("vm.exit.text")
    board.notice(reason).first.wait_for()


def test_a_crashed_machine_is_shown_as_such(lab: Lab) -> None:
    _, board = start(lab, "crashed")
    board.wait_text("vmlab>")
    board.type("fault triple\n")
    board.wait_state("crashed")
    board.notice("triple-faulted").first.wait_for()
    lab.shoot("crashed")


def test_a_monitor_process_that_is_killed_is_told_of(lab: Lab) -> None:
    book, board = start(lab, "killed")
    book.run_new("import os, signal; os.kill(vm.pid, signal.SIGKILL)")
    board.wait_state("crashed")
    book.run_new("vm.start(); vm.console.expect('vmlab> ', timeout=30)")
    board.wait_state("running")


def test_a_vm_that_nobody_holds_any_more(lab: Lab) -> None:
    book, board = start(lab, "gone", show="view = vm.lab(); view")
    book.run_new("import gc; vm.stop(); del vm; _ = gc.collect()")
    until(lambda: board.root.get_attribute("data-state") in ("gone", "stopped"), "the VM gone")
    lab.shoot("gone")


def test_a_view_that_is_closed_is_blank_or_says_so(lab: Lab) -> None:
    book, board = start(lab, "closed", show="view = vm.lab(); view")
    book.run_new("view.close()")
    until(
        lambda: not board.root.is_visible() or board.notice("closed").count(), "the end of the view"
    )
    assert book.ask("vm.state") == "running"
    number = book.run_new("vm.lab()")
    Dashboard(book, number).wait().wait_state("running")


def test_a_view_that_no_kernel_answers_says_so(lab: Lab) -> None:
    """As in a page that was saved with its widgets."""
    book, _ = start(lab, "silent")
    deaf = "from vmlab.notebook.view import View; View.page_hello = lambda *_: None; vm.trap_view()"
    cell = book.cell(book.run_new(deaf))
    cell.locator(".vml").scroll_into_view_if_needed()
    cell.locator(".vml-notice", has_text="No kernel answers").wait_for()
    assert cell.locator(".vml").get_attribute("data-state") == "lost"
    cell.get_by_text("uart16550").wait_for()
