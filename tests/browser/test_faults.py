"""What fails and what waits is marked wherever it is shown, and can be helped from there."""

from __future__ import annotations

from tests.browser.dashboard import FAULTY, Dashboard, start
from tests.browser.lab import Lab
from tests.browser.notebook import Notebook
from tests.waiting import until

PEEK = "peek 0xd0000000"

#: its read does not return for long
SLOW = """
import time
class Slow(Device):
    class regs(Registers):
        VALUE = rw(0x00, "takes its time")
    @on_read("VALUE")
    def value(self) -> int:
        time.sleep(15)
        return 1
vm.hot_add(Slow())
"""


def faulty(lab: Lab, name: str) -> tuple[Notebook, Dashboard]:
    """A machine that waits at its device's failure."""
    book, board = start(lab, name)
    book.run_new(FAULTY + "vm.hot_add(Faulty())")
    board.row("faulty0").wait_for()
    board.wait_text("vmlab>")
    board.type(f"{PEEK}\n")
    board.wait_state("paused")
    return book, board


def test_a_device_that_fails_is_marked_everywhere_and_tried_again(lab: Lab) -> None:
    book, board = faulty(lab, "retry")
    board.notice("the author was tired").first.wait_for()
    until(lambda: board.cells("faulty0")["state"] == "✕ fault", "its mark in the table")
    assert board.range("faulty0").get_attribute("data-fault") == "yes"
    assert "failed" in (board.range("faulty0").get_attribute("aria-label") or "")
    assert "✕" in (board.range("faulty0").text_content() or "")
    board.unfold()
    board.plugged("faulty0").locator("[data-bad]", has_text="fault").wait_for()
    until(lambda: "tired" in board.spoken or "paused" in board.spoken, "it was said")
    # the table's buttons and the bar's do the same: the access is tried again, and fails again
    reads = book.ask("vm.traps['faulty0'].reads")
    board.button("Retry the access to faulty0").click()
    board.button("Retry").wait_for()
    lab.shoot("fault")
    book.run_new("vm.devices['faulty0'].mend()")
    board.button("Retry").click()
    board.wait()  # what is not on screen is not drawn
    board.wait_text("0xd0000000: 0x0000600d")
    board.wait_state("running")
    until(lambda: board.cells("faulty0")["state"] != "✕ fault", "the mark gone")
    assert board.range("faulty0").get_attribute("data-fault") is None
    assert book.ask("vm.traps['faulty0'].reads") >= reads


def test_a_device_that_fails_is_replaced_by_its_newest_class(lab: Lab) -> None:
    book, board = faulty(lab, "newest")
    book.run_new(FAULTY.replace("if not self.mended", "if self.mended"))
    board.root.locator(".vml-fault").get_by_role(
        "button", name="Replace faulty0 with the newest class"
    ).click()
    board.wait_text("0xd0000000: 0x0000600d")
    board.wait_state("running")


def test_a_button_shows_that_it_works_and_what_it_waits_for(lab: Lab) -> None:
    book, board = start(lab, "working")
    book.run_new(SLOW)
    board.row("slow0").wait_for()
    board.wait_text("vmlab>")
    board.type(f"{PEEK}\n")
    board.wait_count("com1", "reads", 1)
    told = board.root.evaluate(PRESS, "pause")
    # one command at a time; but a machine that does not answer can be stopped
    assert told == [["Pausing…", "true", "true"], ["Reset", None, "true"], ["Stop", None, None]]
    until(lambda: lab.page.evaluate("() => window.waited"), "what it waits for")
    assert lab.page.evaluate("() => window.waited")[0].startswith("Pause waits: ")
    until(lambda: board.root.locator("[aria-busy=true]").count() == 0, "its end")
    until(lambda: not board.root.locator(".vml-waiting").first.text_content(), "no word of it")


#: presses a button; what the buttons of the bar are at once, and in `waited` what is said later
PRESS = """(root, action) => {
    window.waited = []
    const place = root.querySelector('.vml-why > .vml-waiting')
    new MutationObserver(() => place.textContent && window.waited.push(place.textContent))
        .observe(place, { childList: true, characterData: true, subtree: true })
    root.querySelector(`[data-action=${action}]`).click()
    return ['pause', 'reset', 'stop'].map(name => root.querySelector(`[data-action=${name}]`)).map(one =>
        [one.textContent, one.getAttribute('aria-busy'), one.getAttribute('aria-disabled')])
}"""

#: whatever changes in the dashboard
CHANGES = """root => {
    window.changes = []
    new MutationObserver(all => window.changes.push(...all.map(one =>
        `${one.type} ${one.target.className ?? ''}: ${one.target.textContent.slice(0, 30)}`)))
        .observe(root, { childList: true, characterData: true, attributes: true, subtree: true })
}"""


def test_an_idle_page_does_nothing(lab: Lab) -> None:
    book, board = start(lab, "idle")
    # after its first minute, and with its last accesses out of sight
    book.run_new("vm.connection.started -= 120")
    board.wait()
    lab.page.wait_for_timeout(18_000)
    used = "__import__('time').process_time()"
    processor = book.ask(used)
    board.root.evaluate(CHANGES)
    lab.page.wait_for_timeout(6000)
    assert lab.page.evaluate("() => window.changes") == []
    assert board.root.evaluate("root => root.getAnimations({ subtree: true }).length") == 0
    # of which the two questions above are half; 0.045 when it looked ten times a second
    assert book.ask(used) - processor < 0.06
    # and it is awake as soon as something happens
    board.command("peek 0xcf000000", "0xcf000000: 0x")
