"""Dark, narrow, and by keyboard alone."""

from __future__ import annotations

import re

from tests.browser.dashboard import Dashboard, start
from tests.browser.lab import Lab
from tests.browser.server import until

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
            layers.push(parse(getComputedStyle(at).backgroundColor))
            if (layers.at(-1)[3] === 1) break
        }
        return layers
    }
    return [...root.querySelectorAll('*')]
        .filter(element => element.checkVisibility() && element.getBoundingClientRect().width > 1
            && !element.closest('.xterm, :disabled, style')
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


def test_dark_theme(lab: Lab) -> None:
    _, board = start(lab, "dark")
    lab.shoot("light")
    light = ground(board)
    assert min(light) > 200
    assert too_faint(board) == []
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    until(lambda: board.root.get_attribute("data-dark") == "yes", "the dark theme's colours")
    until(lambda: max(ground(board)) < 60, "a dark terminal")
    board.command("peek 0xcf000000", "0xcf000000: 0x")
    lab.shoot("dark")
    assert too_faint(board) == []
    lab.command("apputils:change-theme", theme="JupyterLab Light")
    until(lambda: ground(board) == light, "a light terminal")


def ground(board: Dashboard) -> list[int]:
    colour = board.part("Serial console").locator(".xterm-screen").evaluate(GROUND)
    return [int(one) for one in re.findall(r"\d+", colour)[:3]]


def too_faint(board: Dashboard) -> list[tuple[str, float]]:
    """What is hard to read: WCAG asks for 4.5, and for 3 of what is large or beside the point."""
    found = [
        (words, round(contrast(over([colour, *layers]), over(layers)), 1))
        for words, colour, layers in board.root.evaluate(COLOURS)
    ]
    assert len(found) > 20
    return [(words, value) for words, value in found if value < 3]


def test_a_narrow_page_has_one_column(lab: Lab) -> None:
    _, board = start(lab, "narrow")
    wide = {name: board.part(name).bounding_box() for name in ("Address map", "Devices")}
    assert wide["Address map"]["x"] + wide["Address map"]["width"] <= wide["Devices"]["x"] + 1
    lab.page.set_viewport_size({"width": 760, "height": 1000})
    if lab.page.locator("#jp-left-stack").is_visible():
        lab.command("application:toggle-left-area")
    lab.page.set_viewport_size({"width": 620, "height": 1000})

    def stacked() -> bool:
        boxes = [board.part(name).bounding_box() for name in ("Address map", "Devices")]
        return abs(boxes[0]["x"] - boxes[1]["x"]) < 2

    until(stacked, "map and table one above the other")
    assert board.root.evaluate("root => root.scrollWidth - root.clientWidth") <= 1
    for name in ("Address map", "Devices", "Interrupt lines", "Serial console"):
        box = board.part(name).bounding_box()
        outer = board.root.bounding_box()
        assert box["x"] + box["width"] <= outer["x"] + outer["width"] + 1
    board.part("Serial console").scroll_into_view_if_needed()
    board.command("peek 0xcf000000", "0xcf000000: 0x")
    lab.shoot("narrow")


def test_it_can_be_used_without_a_mouse(lab: Lab) -> None:
    book, board = start(lab, "keys")
    board.button("Pause").focus()
    reached = walk(lab, 60)
    for wanted in ("Reset", "Stop", "Hot-plug", "com1", "timer0"):
        assert any(wanted in one for one in reached), (wanted, reached)
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
    lab.page.keyboard.press("Shift+Tab")
    lab.page.keyboard.press("Shift+Tab")
    # and a row opens with Enter
    twist = board.row("com1").get_by_role("button")
    twist.focus()
    lab.page.keyboard.press("Enter")
    until(lambda: "LSR" in board.registers("com1"), "the registers of com1")


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
