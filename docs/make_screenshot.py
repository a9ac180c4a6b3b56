"""Draws docs/lab.png: the dashboard of a machine into which two devices were plugged, as a browser shows
it. Needs what `make test` installs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.dashboard import Dashboard  # noqa: E402  (its folder is made known above)
from tests.browser.lab import Browser, Lab  # noqa: E402
from tests.browser.notebook import Notebook  # noqa: E402
from tests.browser.server import Server, until  # noqa: E402

#: of the dashboard, in CSS pixels; the picture has twice as many
WIDTH = 900
CELLS = [
    """
import random
from vmlab import VM, Device, Registers, on_read, ro, rw
from vmlab.virtio import Rng

class Dice(Device):
    class regs(Registers):
        ROLL = ro(0x00, "a new roll at each read")
        SIDES = rw(0x04, "number of sides", reset=6)

    def __init__(self):
        self._random = random.Random(4)

    @on_read("ROLL")
    def roll(self):
        return self._random.randrange(self.r.SIDES) + 1

vm = VM(kernel="monitor", memory="64M").start()
vm.console.expect("vmlab> ", timeout=30)
vm.hot_add(Dice())
vm.hot_add(Rng())
vm.console.expect("vmlab> ", timeout=30)
""",
    "vm.lab(height=680)",
]


def main() -> None:
    picture = Path(__file__).with_name("lab.png")
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "server") as server,
        Browser(scale=2) as browser,
    ):
        lab = browser.page(server)
        book = lab.open(server.write("lab.ipynb", CELLS))
        book.run()
        board = Dashboard(book, 1).wait()
        fit(lab, board)
        play(book, board)
        board.root.screenshot(path=picture)
        lab.check()
    # few colours: a palette halves the file, and nobody sees it
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(picture, f"{picture.stat().st_size / 1000:.0f} kB")


def fit(lab: Lab, board: Dashboard) -> None:
    """Make the page as wide as the dashboard needs it."""
    lab.command("application:toggle-left-area")
    size = lab.page.viewport_size or {}
    size["width"] += WIDTH - round(board.root.bounding_box()["width"])  # type: ignore[index]
    lab.page.set_viewport_size(size)  # type: ignore[arg-type]
    until(lambda: abs(board.root.bounding_box()["width"] - WIDTH) < 2, "the dashboard as wide")  # type: ignore[index]
    board.wait()


def play(book: Notebook, board: Dashboard) -> None:
    """Something to see, up to its last moment: then rates and sparklines still show it."""
    board.open("dice0")
    board.row("dice0").locator("td").first.click()  # selects it, on the map as well
    board.command("poke 0xd0000004 20", "vmlab> poke")
    for _ in range(3):
        board.command("peek 0xd0000000", "0xd0000000: 0x")
    board.command("rng 16", "vmlab> rng 16")
    board.wait_count("dice0", "reads", 3)
    until(lambda: board.lines()[-1] == "vmlab>", "the prompt")
    until(lambda: board.registers("dice0")["SIDES"].endswith("0014"), "the guest's value of SIDES")
    board.page.keyboard.press("Control+]")
    board.page.evaluate("() => document.activeElement.blur()")


if __name__ == "__main__":
    main()
