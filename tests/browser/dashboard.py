"""A dashboard on a page, as a person sees it: by roles and names, which a screen reader reads as well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.browser.lab import Lab
from tests.browser.notebook import Notebook
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator

__all__ = ["DEVICES", "FAULTY", "MACHINE", "Dashboard", "box_of", "start", "words"]

PROMPT = "vmlab> "

#: a cell that starts the monitor kernel and waits for its prompt
MACHINE = """
from vmlab import VM, Device, Registers, command, on_read, on_write, ro, rw
vm = VM(kernel="monitor", engine="{engine}")
vm.start()
vm.console.expect("vmlab> ", timeout=30)
print(vm.engine)
"""

#: classes that the hot-plug panel finds in the notebook
DEVICES = """
import threading, time

class Dice(Device):
    "Rolls 1, 2, 3, ..."
    class regs(Registers):
        ROLL = ro(0x00, "a new roll each read")
        SIDES = rw(0x04, "number of sides", reset=6)
    def __init__(self, sides: int = 6) -> None:
        self.sides, self.rolls = sides, 0
    @on_read("ROLL")
    def roll(self) -> int:
        self.rolls += 1
        return (self.rolls - 1) % self.sides + 1

class Flood(Device):
    "Raises and drops its line without a pause, once told to."
    class regs(Registers):
        GO = rw(0x00, "how many milliseconds")
        LEVEL = rw(0x04, "the line")
    def irq_level(self) -> bool:
        return bool(self.r.LEVEL)
    @on_write("GO")
    def go(self, value: int) -> None:
        threading.Thread(target=self.flood, args=(value / 1000,), daemon=True).start()
    def flood(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(100):
                with self.lock:
                    self.r.LEVEL = not self.r.LEVEL
                    self.update()
        with self.lock:
            self.r.LEVEL = 0
            self.update()
"""


#: a device whose code has a mistake, until `mended` is set in it
FAULTY = """
class Faulty(Device):
    "Its author was tired."
    class regs(Registers):
        VALUE = rw(0x00, "raises when it is read")
        MENDED = rw(0x04, "1: it does not")
    mended = False
    @command
    def mend(self) -> None:
        self.mended = True
    @on_read("VALUE")
    def value(self) -> int:
        if not self.mended:
            raise ValueError("the author was tired")
        return 0x600D
"""


def words(text: str | None) -> str:
    """Without what only lays it out."""
    return re.sub(r"\s+", " ", (text or "").replace("\xa0", " ")).strip()


def start(
    lab: Lab, name: str, engine: str = "auto", show: str = "vm.lab()", **options: bool
) -> tuple[Notebook, Dashboard]:
    """A notebook whose third cell shows the dashboard of a running machine."""
    cells = [MACHINE.format(engine=engine), DEVICES, show]
    book = lab.open(lab.server.write(f"{name}.ipynb", cells), **options)
    book.run()
    return book, Dashboard(book, 2).wait()


def box_of(place: Locator) -> dict[str, float]:
    """Where it is on the page: x, y, width, height."""
    found = place.bounding_box()
    assert found is not None, "it is not on the page"
    return dict(found)  # type: ignore[arg-type]


class Dashboard:
    """What a cell shows; `index` when it shows several."""

    def __init__(self, book: Notebook, number: int, index: int = 0) -> None:
        self.book, self.page = book, book.page
        self.root = book.cell(number).locator(".vml").nth(index)

    @property
    def keyboard(self) -> Any:
        return self.page.keyboard

    def wait(self) -> Dashboard:
        """Until it is drawn, and on screen: what is not is not kept up to date."""
        self.root.locator(".vml-word").wait_for()
        self.root.evaluate("root => root.scrollIntoView({ block: 'end' })")
        return self

    def part(self, name: str) -> Locator:
        """Address map, Devices, Interrupt lines, Serial console, Hot-plug."""
        return self.root.get_by_role("region", name=name, exact=True)

    # --- the bar --------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        return words(self.root.locator(".vml-word").text_content())

    def wait_state(self, state: str) -> None:
        self.root.locator(".vml-word", has_text=re.compile(f"^{state}$")).wait_for()

    def button(self, name: str) -> Locator:
        return self.root.get_by_role("button", name=name, exact=True)

    def notice(self, text: str) -> Locator:
        """What is said in words to those who see it."""
        return self.root.locator(NOTICES, has_text=text)

    @property
    def spoken(self) -> str:
        """What a screen reader was told last."""
        return words(self.root.locator(".vml-speech").text_content())

    def fit(self, width: int) -> None:
        """Give the dashboard so many pixels, as a narrower page would."""
        self.root.evaluate("(root, width) => { root.style.width = `${width}px` }", width)
        until(lambda: abs(box_of(self.root)["width"] - width) < 2, f"{width} pixels")

    # --- the devices ----------------------------------------------------------------------------

    def row(self, id: str) -> Locator:
        return (
            self.part("Devices")
            .locator("tr")
            .filter(has=self.page.locator(f"th[scope=row]:has-text('{id}')"))
        )

    def cells(self, id: str) -> dict[str, str]:
        """A device's row: column -> text."""
        values: dict[str, str] = self.row(id).evaluate(CELLS)
        return {key: words(value) for key, value in values.items()}

    def number(self, id: str, column: str) -> int:
        return int(re.sub(r"\D", "", self.cells(id)[column]) or 0)

    def wait_count(self, id: str, column: str, least: int) -> None:
        until(lambda: self.number(id, column) >= least, f"{least} {column} of {id}")

    def devices(self) -> list[str]:
        rows = self.part("Devices").locator("th[scope=row]").all_text_contents()
        return [words(row).lstrip("▸▾ ") for row in rows]

    def open(self, id: str) -> None:
        """Show the registers."""
        twist = self.row(id).get_by_role("button")
        if twist.get_attribute("aria-expanded") != "true":
            twist.click()

    def registers(self, id: str) -> dict[str, str]:
        """Of an opened row: register -> value."""
        rows = self.row(id).locator("xpath=following-sibling::tr[1]").locator("table tbody tr")
        pairs = rows.evaluate_all(
            "rows => rows.map(row => [row.cells[0].firstChild.textContent, row.cells[3].textContent])"
        )
        return {name: words(value) for name, value in pairs}

    # --- the map --------------------------------------------------------------------------------

    def range(self, name: str) -> Locator:
        return self.part("Address map").get_by_role("button", name=re.compile(rf"; {name},"))

    # --- hot-plug -------------------------------------------------------------------------------

    def unfold(self) -> None:
        fold = self.button("Hot-plug")
        if fold.get_attribute("aria-expanded") != "true":
            fold.click()
        self.part("Hot-plug").wait_for()

    def add(self, device: str, id: str = "", **options: str) -> None:
        """Through the panel."""
        self.unfold()
        panel = self.part("Hot-plug")
        panel.get_by_label("Device", exact=True).select_option(device)
        for name, value in options.items():
            panel.get_by_label(name, exact=True).fill(value)
        if id:
            panel.get_by_label("id", exact=True).fill(id)
        panel.get_by_role("button", name="Add", exact=True).click()

    def plugged(self, id: str) -> Locator:
        return (
            self.part("Hot-plug")
            .get_by_role("listitem")
            .filter(has=self.page.locator(f"b:text-is('{id}')"))
        )

    # --- the console ----------------------------------------------------------------------------

    @property
    def screen(self) -> Locator:
        return self.part("Serial console").locator(".xterm-rows")

    def lines(self) -> list[str]:
        """What the terminal shows, without the empty lines at its end."""
        found = [text.replace("\xa0", " ").rstrip() for text in self.screen.evaluate(LINES)]
        while found and not found[-1]:
            found.pop()
        return found

    def wait_text(self, text: str, timeout: float = 20.0) -> None:
        until(lambda: text in "\n".join(self.lines()), f"{text!r} on the terminal", timeout)

    def scroll_up(self, pages: int = 10) -> None:
        """In the scrollback."""
        self.focus()
        for _ in range(pages):
            self.keyboard.press("Shift+PageUp")

    def focus(self) -> None:
        self.part("Serial console").locator(".xterm-screen").click()

    def type(self, text: str) -> None:
        """At the keyboard, a key at a time."""
        self.focus()
        self.keyboard.type(text)

    def command(self, text: str, answer: str) -> None:
        """Type a command, wait for its answer."""
        self.wait_text(PROMPT.strip())
        self.type(text)
        self.keyboard.press("Enter")
        self.wait_text(answer)


NOTICES = ".vml-notice, .vml-why > span, .vml-said, .vml-fill, .vml-waiting, .vml-trouble"

CELLS = """row => {
    const names = [...row.closest('table').tHead.rows[0].cells].map(cell => cell.textContent)
    return Object.fromEntries([...row.cells].map((cell, index) => [names[index], cell.textContent]))
}"""

LINES = "rows => [...rows.children].map(row => row.textContent)"
