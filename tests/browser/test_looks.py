"""Dark, narrow, and by keyboard alone."""

from __future__ import annotations

import re
from typing import Any

from tests.browser.dashboard import start
from tests.browser.lab import Lab, until


def luminance(colour: str) -> float:
    """0 to 1, as WCAG 2.2 defines it for contrasts."""
    parts = [float(one) for one in re.findall(r"[\d.]+", colour)][:3]
    linear = [
        one / 255 / 12.92 if one / 255 <= 0.04045 else ((one / 255 + 0.055) / 1.055) ** 2.4
        for one in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


#: of every element with text of its own: its words, its colour, and what is behind it
COLOURS = """root => {
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor
            if (!/^rgba\\(.*, 0\\)$|transparent/.test(colour)) return colour
        }
        return 'rgb(255, 255, 255)'
    }
    return [...root.querySelectorAll('*')]
        .filter(element => element.checkVisibility() && element.getBoundingClientRect().width > 1
            && !element.closest('.xterm, :disabled, style')
            && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
        .map(element => [element.textContent.trim().slice(0, 30), getComputedStyle(element).color,
            behind(element)])
}"""


def test_dark_theme(lab: Lab) -> None:
    _, board = start(lab, "dark")
    light = lab.shoot("light")
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    until(lambda: board.root.get_attribute("data-dark") == "yes", "the dark theme's colours")
    board.command("peek 0xcf000000", "0xcf000000: 0x")
    assert lab.shoot("dark") != light
    rows = board.part("Serial console").locator(".xterm-screen")
    assert luminance(rows.evaluate(BACKGROUND)) < 0.1
    assert too_faint(board.root.evaluate(COLOURS)) == []
    lab.command("apputils:change-theme", theme="JupyterLab Light")
    until(lambda: board.root.get_attribute("data-dark") == "no", "the light theme's colours")
    assert too_faint(board.root.evaluate(COLOURS)) == []


def too_faint(found: list[list[str]]) -> list[Any]:
    """What nobody can read: WCAG asks for 4.5, and 3 for what is large or beside the point."""
    return [
        (words, round(contrast(colour, behind), 1))
        for words, colour, behind in found
        if colour.startswith("rgb(") and contrast(colour, behind) < 3
    ]


BACKGROUND = """screen => {
    for (let at = screen; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor
        if (!/^rgba\\(.*, 0\\)$|transparent/.test(colour)) return colour
    }
}"""


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
