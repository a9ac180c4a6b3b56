"""A busy kernel, a burst on the serial line, a flood of interrupts: the page goes on."""

from __future__ import annotations

from tests.browser.dashboard import start
from tests.browser.lab import Lab
from tests.waiting import until

BUSY = """
import time
end = time.monotonic() + 60
try:
    while time.monotonic() < end:
        pass
except KeyboardInterrupt:  # an error would have the kernel drop what is asked next
    print("interrupted")
"""

BURST = """
line = b"%08d the quick brown fox jumps over the lazy dog and is not seen again\\r\\n"
sent = 0
while sent < 10 << 20:
    part = b"".join(line % number for number in range(sent, sent + 64000, 64))
    vm.console.feed(part)
    sent += len(part)
vm.console.feed(b"the burst is over\\r\\nvmlab> ")
"""


def test_a_busy_cell_holds_up_nothing(lab: Lab) -> None:
    book, board = start(lab, "busy")
    # twice: what was sent meanwhile must not change who takes what is typed next
    for text in ("peek 0xcf000000", "peek 0xcf000ff0"):
        number = book.run_new(BUSY, wait=False)
        board.wait()
        board.command(text, f"{text.removeprefix('peek ')}: 0x")
        reads = board.number("timer0", "reads")
        board.wait_count("timer0", "reads", reads)
        board.button("Pause").click()
        board.wait_state("paused")
        board.button("Resume").click()
        board.wait_state("running")
        assert book.outputs(number) == []
        book.interrupt()
        book.finish(number)
        assert book.text(number) == "interrupted\n"


def test_ten_megabytes_on_the_serial_line(lab: Lab) -> None:
    book, board = start(lab, "burst")
    board.wait_text("vmlab>")
    with lab.responsive():
        book.run_new(BURST)
        board.wait_text("the burst is over")
    assert book.ask("len(vm.console.text)") < 8 << 20
    board.command("peek 0xcf000000", "0xcf000000: 0x")


def test_a_flood_of_interrupts(lab: Lab) -> None:
    book, board = start(lab, "flood")
    book.run_new("vm.hot_add(Flood())")
    board.row("flood0").wait_for()
    with lab.responsive():
        board.command("poke 0xd0000000 2000", "vmlab> poke")
        lamp = board.part("Interrupt lines").get_by_role("button", name="line 5")
        until(lambda: raised(lamp.get_attribute("aria-label")) > 1000, "a thousand interrupts")
        board.command("peek 0xcf000000", "0xcf000000: 0x")
    assert book.ask("vm.irqs[[row.line for row in vm.irqs].index(5)].raised") > 1000


def raised(label: str | None) -> int:
    """Of "line 5, flood0: 12,345 raised, ..."."""
    text = (label or "").partition(": ")[2].partition(" raised")[0]
    return int("".join(filter(str.isdigit, text)) or 0)
