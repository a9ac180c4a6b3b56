"""By the keyboard alone, and with a screen reader."""

from __future__ import annotations

import re

from tests.browser.dashboard import MACHINE, box_of, start
from tests.browser.lab import Lab
from tests.waiting import until


def test_it_can_be_used_without_a_mouse(lab: Lab) -> None:
    book, board = start(lab, "keys")
    board.button("Pause").focus()
    reached = walk(lab, 12)
    # a stop a part: map, devices, lines, console
    assert len(reached) == 5, reached
    assert [bool(lab.page.locator(f".vml-{part} :focus").count()) for part in ("console",)] == [
        True
    ]
    assert any("terminal" in one.lower() for one in reached), reached
    # in the terminal now: Tab is the guest's, and typing is
    before = len(book.page.locator(".jp-Cell").all())
    lab.page.keyboard.type("peek 0xcf000000\n")
    board.wait_text("0xcf000000: 0x")
    # keys that mean something to the notebook mean nothing to it from here
    lab.page.keyboard.type("dd")
    lab.page.keyboard.press("Escape")
    lab.page.keyboard.type("b")
    assert len(book.page.locator(".jp-Cell").all()) == before
    lab.page.keyboard.press("Control+]")
    assert "terminal" not in focused(lab).lower()


def test_arrows_go_about_in_a_part(lab: Lab) -> None:
    _, board = start(lab, "arrows")
    keys = lab.page.keyboard
    # the buttons
    board.button("Pause").focus()
    for wanted in ("Reset", "Stop", "Hot-plug"):
        keys.press("ArrowRight")
        assert focused(lab) == wanted
    keys.press("Home")
    assert focused(lab) == "Pause"
    # a button that goes does not take the keyboard with it
    keys.press("Enter")
    board.wait_state("paused")
    until(lambda: focused(lab) == "Resume", "the focus on another button")
    keys.press("Enter")
    board.wait_state("running")
    # the map: every range can be gone to, also what cannot be pressed; Enter selects
    board.range("timer0").focus()
    keys.press("ArrowDown")
    assert "; ram, 64 MiB" in focused(lab)
    assert board.root.locator(".vml-about", has_text="ram, 64 MiB").is_visible()
    keys.press("ArrowUp")
    keys.press("Enter")
    board.row("timer0").and_(lab.page.locator("[aria-selected=true]")).wait_for()
    before = box_of(board.range("timer0"))["height"]
    keys.press("+")
    assert box_of(board.range("timer0"))["height"] > before
    # the devices: space selects, right opens, left closes
    board.row("com1").get_by_role("button").focus()
    keys.press("Space")
    board.row("com1").and_(lab.page.locator("[aria-selected=true]")).wait_for()
    keys.press("ArrowRight")
    until(lambda: "LSR" in board.registers("com1"), "the registers of com1")
    keys.press("ArrowDown")
    assert focused(lab) == "Registers"
    keys.press("ArrowUp")
    keys.press("ArrowLeft")
    until(lambda: not board.root.locator(".vml-inner").count(), "the row closed")
    keys.press("ArrowDown")
    assert focused(lab) == "▸power"
    # the lines
    board.part("Interrupt lines").get_by_role("button").first.focus()
    keys.press("End")
    assert focused(lab).startswith("line ")
    # what is pressed and what is selected is told by more than a colour
    assert board.range("com1").get_attribute("aria-pressed") == "true"


def test_the_console_can_be_left_both_ways(lab: Lab) -> None:
    three = "VBox([vm.irq_view(), vm.console_view(), vm.trap_view()])"
    cells = [MACHINE.format(engine="auto"), f"from ipywidgets import VBox\n{three}"]
    book = lab.open(lab.server.write("leaving.ipynb", cells))
    book.run()
    cell = book.cell(1)
    console = cell.locator(".vml-console")
    leave = console.locator(".vml-leave")
    assert leave.text_content() == "click to type"
    # the cursor shows before one has been there
    console.locator(".xterm-cursor").wait_for()
    for key, part in (("Tab", ".vml-traps"), ("Shift+Tab", ".vml-irqs")):
        console.locator(".xterm-screen").click()
        assert leave.text_content() == "Ctrl-] then Tab leaves"
        lab.page.keyboard.press("Tab")  # the guest's
        assert console.locator(":focus").count()
        lab.page.keyboard.press("Control+]")
        assert "Tab" in (leave.text_content() or "")
        lab.page.keyboard.press(key)
        assert cell.locator(f"{part} :focus").count(), (key, focused(lab))
        assert leave.text_content() == "click to type"
    # and who has only looked out is let in again
    console.locator(".xterm-screen").click()
    lab.page.keyboard.press("Control+]")
    lab.page.keyboard.press("Enter")
    assert "terminal" in focused(lab).lower()


#: notes, for each live region, when it had something new to say
LISTEN = """root => {
    const heard = window.heard = new Map()
    for (const region of root.querySelectorAll('[role=status], [role=alert], [aria-live]')) {
        if (region.closest('.xterm')) continue  // what the guest prints; xterm.js gathers it for a second
        heard.set(region, [])
        new MutationObserver(() => region.textContent && heard.get(region).push(performance.now()))
            .observe(region, { childList: true, characterData: true, subtree: true })
    }
}"""
GAPS = """() => [...window.heard.values()].map(times =>
    times.slice(1).map((time, index) => time - times[index])).flat()"""


def test_a_screen_reader_is_not_flooded(lab: Lab) -> None:
    book, board = start(lab, "spoken")
    book.run_new("vm.hot_add(Flood())")
    board.row("flood0").wait_for()
    board.range("com1").click()  # whose counts run, beneath the map
    board.root.evaluate(LISTEN)
    book.run_new(
        "import time\nfor _ in range(40): vm.console.run('poke 0xd0000000 20'); time.sleep(0.05)",
        wait=False,
    )
    for action in ("Pause", "Resume", "Pause", "Resume"):
        board.button(action).click()
        board.wait_state("paused" if action == "Pause" else "running")
    lab.page.wait_for_timeout(3000)
    gaps = lab.page.evaluate(GAPS)
    assert gaps, "it was told something"
    assert min(gaps) > 900, gaps
    assert "is running" in board.spoken
    assert board.root.locator("[aria-live=assertive]").count() == 0


def test_what_is_named_is_named_in_full(lab: Lab) -> None:
    book, board = start(lab, "names")
    board.unfold()
    panel = board.part("Hot-plug")
    # a docstring's names as code, choices as a list, what it will be called
    panel.get_by_label("Device", exact=True).select_option("console")
    assert "`" not in (panel.text_content() or "")
    assert panel.locator("code").all_text_contents() == ["ports"]
    assert panel.get_by_label("notify").locator("option").all_text_contents() == [
        "ioeventfd",
        "trap",
    ]
    assert panel.get_by_label("id", exact=True).get_attribute("placeholder") == "console0"
    # the first that is offered can be added as it is
    for name in ("disk", "Dice"):
        panel.get_by_label("Device", exact=True).select_option(name)
        panel.get_by_role("button", name="Add", exact=True).click()
        board.row(f"{name.lower()}0").wait_for()
    board.add("Dice", id="a b<c>")
    board.notice("letters, digits").first.wait_for()
    assert len(board.devices()) == len(set(board.devices()))
    # whose button it is; and what cannot be undone is asked twice
    item = board.plugged("dice0")
    assert item.get_by_role("button", name="Remove dice0", exact=True).is_visible()
    force = item.get_by_role("button", name=re.compile("force", re.IGNORECASE))
    assert force.get_attribute("aria-label") == "Force dice0"
    force.click()
    lab.page.wait_for_timeout(300)
    assert "dice0" in book.ask("list(vm.devices)")
    assert force.get_attribute("aria-label") == "Really force out dice0"
    assert force.evaluate("one => getComputedStyle(one).backgroundColor") != "rgba(0, 0, 0, 0)"
    # one word for how far the guest is, wherever it stands
    word = board.cells("dice0")["state"].split()[-1]
    assert item.locator("li[data-done]").last.text_content().split()[-1] == word  # type: ignore[union-attr]
    assert book.ask("vm.devices['dice0'].state") == word
    board.range("dice0").hover()
    board.root.locator(".vml-about", has_text=f"{word} ·").wait_for()
    force.click()
    board.row("dice0").wait_for(state="detached")
    # a register's name and what it is are two words
    board.open("disk0")
    first = board.row("disk0").locator("xpath=following-sibling::tr[1]").locator("tbody td").first
    assert re.match(r"MagicValue\s", first.text_content() or "")


def test_a_figure_has_its_words(lab: Lab) -> None:
    cells = ["from vmlab import VM; vm = VM(kernel='monitor')", "vm.plot_map()"]
    book = lab.open(lab.server.write("figure.ipynb", cells))
    book.run()
    picture = book.cell(1).locator("img")
    picture.wait_for()
    assert "ram at 0x0" in (picture.get_attribute("alt") or "")


FOCUSED = """() => {
    const at = document.activeElement
    return at.getAttribute('aria-label') || at.textContent.trim().slice(0, 40) || at.title || at.tagName
}"""


def focused(lab: Lab) -> str:
    name: str = lab.page.evaluate(FOCUSED)
    return name


def walk(lab: Lab, most: int) -> list[str]:
    """What Tab comes to, up to the terminal."""
    found = [focused(lab)]
    for _ in range(most):
        lab.page.keyboard.press("Tab")
        found.append(focused(lab))
        if "terminal" in found[-1].lower():
            break
    return found
