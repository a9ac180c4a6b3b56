"""The text screen on a page: seen, typed at, left again, read out."""

from __future__ import annotations

from tests.browser.dashboard import Dashboard, start
from tests.browser.lab import Lab
from tests.kernels.screen import echo
from tests.waiting import until

CELL = f"""
from vmlab import VM
vm = VM({str(echo())!r}, engine="soft")
vm.start()
vm.screen.expect("ready", timeout=30)
print(vm.engine)
"""


def opened(lab: Lab, name: str, show: str) -> Dashboard:
    book = lab.open(lab.server.write(f"{name}.ipynb", [CELL, show]))
    book.run()
    board = Dashboard(book, 1)
    board.root.locator(".vml-cells").first.wait_for()
    return board


def lines(board: Dashboard) -> list[str]:
    found: list[str] = board.root.locator(".vml-cells").evaluate_all(
        "rows => rows.map(row => row.textContent.trimEnd())"
    )
    return found


def test_it_shows_colours_takes_keys_and_lets_them_go(lab: Lab) -> None:
    board = opened(lab, "screen", "vm.lab()")
    until(lambda: lines(board)[0] == "ready", "the guest's text")
    assert len(lines(board)) == 25
    first = board.root.locator(".vml-cells span").first
    assert first.inner_text() == "ready"
    assert first.evaluate("one => getComputedStyle(one).color") == "rgb(255, 255, 85)"
    assert first.evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(0, 0, 170)"
    glass = board.root.get_by_role("group", name="Text screen, 25 lines of 80")
    assert glass.is_visible()
    width = glass.evaluate("one => [one.scrollWidth, one.parentNode.clientWidth]")
    assert width[0] <= width[1], "80 columns fit"

    keys = board.root.get_by_role("application", name="Keyboard of the guest")
    keys.click()
    lab.page.keyboard.press("a")
    until(lambda: lines(board)[1] == "1e9e", "the key, down and up")
    lab.page.keyboard.press("Shift+ArrowUp")
    until(lambda: lines(board)[1] == "1e9e2ae048e0c8aa", "an arrow key and Shift")
    lab.page.keyboard.press("Tab")
    until(lambda: lines(board)[1].endswith("0f8f"), "Tab, which is the guest's")
    said = board.root.locator(".vml-speech")
    until(lambda: "0f8f" in (said.text_content() or ""), "what a screen reader reads out")

    # what is held when the screen loses the focus is let go
    lab.page.keyboard.down("q")
    until(lambda: lines(board)[1].endswith("8f10"), "the key, held")
    lab.page.keyboard.press("Control+]")
    until(lambda: lines(board)[1].endswith("8f101d909d"), "both let go")
    lab.page.keyboard.up("q")
    focused = board.root.locator(":focus")
    assert "Tab or Shift+Tab goes on" in focused.inner_text()
    lab.page.keyboard.press("Tab")
    assert not board.root.locator(".vml-keys:focus").count()
    lab.shoot("screen")


def test_it_follows_scrolls_and_fifty_lines_and_a_paused_machine(lab: Lab) -> None:
    board = opened(lab, "scrolls", "vm.screen_view()")
    until(lambda: lines(board)[0] == "ready", "the guest's text")
    board.root.get_by_role("application").focus()
    lab.page.keyboard.press("Escape")
    until(lambda: lines(board)[0] == "0181", "a line on")
    assert board.root.locator(".vml-cursor").is_visible()
    lab.page.keyboard.press("F1")
    until(lambda: len(lines(board)) == 50, "50 lines")
    lab.page.keyboard.press("F2")
    until(lambda: board.root.locator(".vml-cursor").is_hidden(), "no cursor")
    lab.shoot("screen-50")


def test_no_screen_no_panel(lab: Lab) -> None:
    _, board = start(lab, "noscreen")
    assert board.root.locator(".vml-text-screen").is_hidden()
