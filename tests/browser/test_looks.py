"""Dark, narrow, with the reader's own colours: nothing is cut, and everything can be read."""

from __future__ import annotations

import re

from tests.browser.dashboard import FAULTY, Dashboard, box_of, start
from tests.browser.lab import Lab
from tests.waiting import until

Colour = list[float]


def contrast(one: Colour, other: Colour) -> float:
    """As WCAG 2.2 defines it: 1 for no difference to 21 for black on white."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Colour) -> float:
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in colour[:3]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def over(layers: list[Colour]) -> Colour:
    """What is seen of layers of red, green, blue and alpha, the nearest first."""
    seen = [1.0, 1.0, 1.0]
    for *colour, alpha in reversed(layers):
        seen = [alpha * new + (1 - alpha) * old for new, old in zip(colour, seen, strict=True)]
    return seen


#: of every element with text of its own: its words, its colour, and the layers behind it
COLOURS = """root => {
    const parse = text => {
        const numbers = text.match(/[\\d.]+/g).map(Number)
        const scale = text.startsWith('rgb') ? 255 : 1
        return [...numbers.slice(0, 3).map(one => one / scale), numbers[3] ?? 1]
    }
    const behind = element => {
        const layers = []
        for (let at = element; at; at = at.parentElement) {
            // a range's warmth lies beneath its name
            const heat = at.parentElement?.querySelector(':scope > .vml-heat')
            layers.push(parse(getComputedStyle(at).backgroundColor))
            if (heat && heat !== at && heat.clientWidth)
                layers.push(parse(getComputedStyle(heat).backgroundColor))
            if (layers.at(-1)[3] === 1) break
        }
        return layers
    }
    return [...root.querySelectorAll('*')]
        .filter(element => element.checkVisibility() && element.getBoundingClientRect().width > 1
            && !element.closest('.xterm, .vml-hidden, :disabled, style')
            && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
        .map(element => [element.textContent.trim().slice(0, 30),
            parse(getComputedStyle(element).color), behind(element)])
}"""

#: the terminal's ground
GROUND = """screen => {
    let at = screen
    while (getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)') at = at.parentElement
    return getComputedStyle(at).backgroundColor
}"""


#: every count with seven digits, as after an hour of work
MUCH = """
for one in vm.devices.values():
    words, at = vm.connection.session.page.words, one._entry.block + 9
    words[at], words[at + 1] = 1_234_567, 7_654_321
"""

#: what is wider than its place: its words are cut, or must be scrolled to
CUT = """root => [...root.querySelectorAll('*')]
    .filter(element => element.checkVisibility() && element.clientWidth > 1
        && !element.closest('.vml-screen, .vml-hidden, svg, thead')
        && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline')
    .map(element => `${element.className}: ${element.textContent.slice(0, 40)}`)"""

#: what stands outside of the dashboard
OUTSIDE = """root => {
    const outer = root.getBoundingClientRect()
    const beyond = box => box.left < outer.left - 1 || box.right > outer.right + 1
    return [...root.querySelectorAll('button, td, th, .vml-card, .vml-bar-row > *')]
        .filter(element => element.checkVisibility() && !element.closest('.xterm, thead'))
        .filter(element => beyond(element.getBoundingClientRect()))
        .map(element => element.textContent.slice(0, 40))
}"""

#: what is too low for a finger
LOW = """root => [...root.querySelectorAll('button, summary')].filter(one => one.checkVisibility())
    .map(one => [one.textContent, one.getBoundingClientRect().height])
    .filter(([, height]) => height < 23.5)"""

KEPT = ("state", "reads", "writes", "rate")
SHOWN = "row => [...row.cells].filter(cell => cell.checkVisibility()).length"


def test_nothing_is_cut_however_narrow_and_however_much(lab: Lab) -> None:
    book, board = start(lab, "widths")
    lab.page.set_viewport_size({"width": 1800, "height": 1000})
    book.run_new("vm.hot_add(Dice())")
    board.row("dice0").wait_for()
    book.run_new(MUCH)
    until(lambda: board.cells("dice0")["reads"] == "1,234,567", "seven digits")
    shown = {}
    for width in (1280, 900, 830, 760, 640, 611, 420, 300):
        board.fit(width)
        board.wait()
        shown[width] = board.row("dice0").evaluate(SHOWN)
        lab.shoot(f"width-{width}")
        assert board.root.evaluate(CUT) == [], width
        assert board.root.evaluate(OUTSIDE) == [], width
        for name in KEPT:
            cell = board.row("dice0").locator(f".c-{name}")
            assert cell.is_visible(), (width, name)
    # columns are dropped where there is no room, no earlier, and are back when there is
    assert shown[1280] == 10 > shown[611] >= shown[420] >= len(KEPT) + 1
    board.fit(1280)
    until(lambda: board.row("dice0").evaluate(SHOWN) == 10, "all columns")
    # and what was dropped is said in the opened row
    board.fit(420)
    board.open("dice0")
    board.root.locator(".vml-facts", has_text="dice · 0xd000_0000").wait_for()
    board.fit(900)
    board.root.evaluate("root => { root.style.zoom = 1.5 }")
    board.wait()
    until(lambda: board.root.evaluate(CUT) == [], "nothing cut at 150 %")
    lab.shoot("zoomed")
    board.root.evaluate("root => { root.style.zoom = 1 }")
    assert board.root.evaluate(LOW) == [], "targets of 24 pixels"


def test_every_state_can_be_read_in_both_themes(lab: Lab) -> None:
    book, board = start(lab, "states")
    light = ground(board)
    assert min(light) > 200
    board.unfold()
    board.add("Dice")
    board.row("dice0").wait_for()
    board.plugged("dice0").get_by_role(
        "button", name="Force dice0"
    ).click()  # asks whether one is sure
    board.row("com1").locator("td").nth(3).click()
    board.open("dice0")
    board.type("peek 0xcf000000\n")
    readable(lab, board, "running")
    book.run_new(FAULTY + "vm.hot_add(Faulty(), id='bad')")
    board.row("bad").wait_for()
    address = book.ask("vm.devices['bad'].base")
    board.command(f"peek {address:#x}", f"peek {address:#x}")
    board.wait_state("paused")
    board.open("bad")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab.command("apputils:change-theme", theme=theme)
        dark = theme.endswith("Dark")
        until(lambda: (max(ground(board)) < 60) == dark, f"the ground of {theme}")  # noqa: B023
        readable(lab, board, f"fault, {theme}")
    assert ground(board) == light
    board.button("Stop").click()
    board.wait_state("stopped")
    readable(lab, board, "stopped")
    lab.allowed += ["Widget model not found", "Error during widget restart"]
    book.restart()
    board.notice("restarted").wait_for(timeout=30_000)
    readable(lab, board, "no kernel")
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    until(lambda: max(ground(board)) < 60, "a dark terminal")
    readable(lab, board, "no kernel, dark")


def readable(lab: Lab, board: Dashboard, what: str) -> None:
    lab.shoot(f"state {what}")
    assert too_faint(board) == [], what


def ground(board: Dashboard) -> list[int]:
    colour = board.part("Serial console").locator(".xterm-screen").evaluate(GROUND)
    return [int(one) for one in re.findall(r"\d+", colour)[:3]]


def too_faint(board: Dashboard) -> list[tuple[str, float]]:
    """What is hard to read: WCAG asks for 4.5."""
    found = [
        (words, round(contrast(over([colour, *layers]), over(layers)), 1))
        for words, colour, layers in board.root.evaluate(COLOURS)
    ]
    assert len(found) > 20
    return [(words, value) for words, value in found if value < 4.5]


def test_the_readers_own_colours(lab: Lab) -> None:
    book, board = start(lab, "forced")
    book.run_new("vm.hot_add(Flood())")
    board.row("flood0").wait_for()
    board.wait_text("vmlab>")
    lab.page.emulate_media(forced_colors="active")
    lab.page.wait_for_timeout(300)
    screen = board.part("Serial console").locator(".vml-screen")
    shown = screen.screenshot()
    # what is for screen readers is not drawn a second time
    board.root.evaluate(
        "root => root.querySelector('.xterm-accessibility').style.visibility = 'hidden'"
    )
    assert screen.screenshot() == shown
    board.root.evaluate("root => root.querySelector('.xterm-accessibility').style.visibility = ''")
    # selection and lamps are seen: in all that shows them
    row, place = board.row("flood0"), board.range("flood0")
    lamp = board.part("Interrupt lines").get_by_role("button", name="flood0")
    before = [one.screenshot() for one in (row, place, lamp)]
    row.locator("td").nth(1).click()
    place.and_(lab.page.locator("[aria-pressed=true]")).wait_for()
    lab.page.mouse.move(0, 0)
    assert all(one.screenshot() != was for one, was in zip((row, place, lamp), before, strict=True))
    bulb = lamp.locator(".vml-bulb")
    low = bulb.screenshot()
    board.command("poke 0xd0000004 1", "vmlab> poke")
    board.root.locator(".vml-lamp[data-level=high]:not([data-glow])").wait_for()
    assert bulb.screenshot() != low
    lab.shoot("forced")
    lab.page.emulate_media(forced_colors="none")


def test_a_narrow_page_has_one_column(lab: Lab) -> None:
    _, board = start(lab, "narrow")
    wide = {name: box_of(board.part(name)) for name in ("Address map", "Devices")}
    assert wide["Address map"]["x"] + wide["Address map"]["width"] <= wide["Devices"]["x"] + 1
    lab.page.set_viewport_size({"width": 760, "height": 1000})
    if lab.page.locator("#jp-left-stack").is_visible():
        lab.command("application:toggle-left-area")
    lab.page.set_viewport_size({"width": 620, "height": 1000})

    def stacked() -> bool:
        boxes = [box_of(board.part(name)) for name in ("Address map", "Devices")]
        return abs(boxes[0]["x"] - boxes[1]["x"]) < 2

    until(stacked, "map and table one above the other")
    assert board.root.evaluate("root => root.scrollWidth - root.clientWidth") <= 1
    for name in ("Address map", "Devices", "Interrupt lines", "Serial console"):
        box = box_of(board.part(name))
        outer = box_of(board.root)
        assert box["x"] + box["width"] <= outer["x"] + outer["width"] + 1
    board.part("Serial console").scroll_into_view_if_needed()
    board.command("peek 0xcf000000", "0xcf000000: 0x")
    lab.shoot("narrow")
