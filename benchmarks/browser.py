"""What a person at the page notices: how soon a trap is seen, an echo, the dashboard; and what looking
costs the guest. Measured in a real browser, on a JupyterLab of its own.

    python benchmarks/browser.py                  as `make bench` does it
    python benchmarks/browser.py --soak 30        half an hour of a running dashboard: does memory grow?
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from elf import trap_loop, write_pvh_elf
from figures import Figure, NotHere, plain, ratio, show

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.dashboard import MACHINE, Dashboard  # noqa: E402  (its folder is made known above)
from tests.browser.lab import Browser, Lab, find_browser  # noqa: E402
from tests.browser.notebook import Notebook  # noqa: E402
from tests.browser.server import Server, until  # noqa: E402

__all__ = ["measure", "soak"]

STATIC = ROOT / "vmlab" / "notebook" / "static"
#: a device that remembers when it was read, by the clock that the page has as well
MARK = """
import time

class Mark(Device):
    class regs(Registers):
        VALUE = ro(0x00, "read it, and it remembers when")
    def __init__(self):
        self.times = ""
    @on_read("VALUE")
    def value(self):
        self.times += f" {time.time() * 1000:.1f}"
        return 0

vm.hot_add(Mark(), id="mark")
"""
#: times by the page's clock at which a number rose, as soon as it can be seen
RISES = """([element, pattern]) => {
    const rises = window.rises = []
    const all = new RegExp(pattern, 'g')
    const look = () => (element.textContent.match(all) ?? []).join('').replaceAll(',', '')
    let last = look()
    new MutationObserver(() => {
        const now = look()
        if (now === last) return
        last = now
        // the next frame holds the change; what comes after that frame is after its painting
        const seen = () => rises.push([now, performance.timeOrigin + performance.now()])
        requestAnimationFrame(() => setTimeout(seen))
    }).observe(element, { subtree: true, childList: true, characterData: true })
}"""
#: from the end of a cell to the moment at which its dashboard shows a device and the guest's output
OPENING = """async number => {
    const book = window.book.content, cell = book.widgets[number], began = performance.now()
    book.deselectAll()
    book.activeCellIndex = number
    cell.model.sharedModel.execution_count = null
    cell.node.scrollIntoView({ block: 'start' })
    window.jupyterapp.commands.execute('notebook:run-cell')
    let ended = 0
    while (performance.now() < began + 30000) {
        await new Promise(requestAnimationFrame)
        const model = cell.model
        if (!ended && model.executionState === 'idle' && model.sharedModel.execution_count !== null)
            ended = performance.now()
        const shown = cell.node.querySelector('.vml-device') &&
            cell.node.querySelector('.xterm-rows')?.textContent.includes('vmlab>')
        if (ended && shown) return performance.now() - ended
    }
    throw new Error('no dashboard within 30 s')
}"""
#: a guest that does nothing but trap, and how long a trap takes it, by the clock and by its CPU's time
TRAPS = """
import psutil, statistics, time
from vmlab import VM, Device, Registers, rw

class Tally(Device):
    class regs(Registers):
        DATA = rw(0x04, "what the guest counts")

vm = VM(kernel={kernel!r}, memory="16M", devices=[Tally()]).start()

def trap():
    process = psutil.Process(vm.pid)
    def now():
        used = process.cpu_times()
        return time.perf_counter(), used.user + used.system, vm.traps["tally0"].writes
    looks = [now()]
    for _ in range(12):
        time.sleep(0.2)
        looks.append(now())
    windows = [(b[0] - a[0]) / (b[2] - a[2]) for a, b in zip(looks, looks[1:])]
    (_, began, before), (_, ended, after) = looks[0], looks[-1]
    return statistics.median(windows) * 1e6, (ended - began) / (after - before) * 1e6
"""


@contextlib.contextmanager
def jupyter() -> Iterator[Lab]:
    program = find_browser()
    if program is None:
        raise NotHere("no browser (Debian: apt-get install chromium)")
    try:
        import jupyterlab  # noqa: F401  (only asked for)
        import playwright  # noqa: F401
    except ModuleNotFoundError as error:
        raise NotHere(f"Python module {error.name} is missing (make setup)") from None
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "server") as server,
        Browser(program) as browser,
    ):
        yield browser.page(server)


def measure(rounds: int) -> list[Figure]:
    """All but the soak; of traps and characters 10 times `rounds`."""
    figures = [bundles()]
    with jupyter() as lab:
        opened, board = opening(lab, rounds)
        figures += opened
        figures.append(seeing(board, 10 * rounds))
        figures.append(echoing(board, 10 * rounds))
        lab.server.forget()
        figures += looking(lab, rounds)
        lab.check()
    return figures


def bundles() -> Figure:
    """Every view is a module of its own; the dashboard's is the largest."""
    sizes = {path.stem: len(path.read_bytes()) / 1000 for path in sorted(STATIC.glob("*.js"))}
    packed = {
        path.stem: len(gzip.compress(path.read_bytes())) / 1000 for path in STATIC.glob("*.js")
    }
    name, size = max(sizes.items(), key=lambda one: one[1])
    return Figure(
        f"largest bundle: {name}.js", size, "kB", 400, {"kB gzipped": packed[name], **sizes}
    )


def opening(lab: Lab, rounds: int) -> tuple[list[Figure], Dashboard]:
    """A new dashboard each time; the first one brings its bundle along."""
    # the empty lines beneath let the page scroll far enough
    cells = [MACHINE.format(engine="auto"), MARK, "vm.lab()", "\n" * 60]
    book = lab.open(lab.server.write("figures.ipynb", cells))
    book.run(0, 1)
    took: list[float] = []
    for _ in range(rounds + 1):
        book.clear(2)
        took.append(lab.page.evaluate(OPENING, 2))
    figures = [
        plain("dashboard open after its cell's end", took, "ms", 1000),
        Figure("  the first one on a page", took[0], "ms", 1000),
    ]
    return figures, Dashboard(book, 2).wait()


def seeing(board: Dashboard, count: int) -> Figure:
    """From the device's handler to the number on the page."""
    page, book = board.page, board.book
    board.row("mark").scroll_into_view_if_needed()
    column = page.evaluate_handle(
        "row => row.cells[[...row.closest('table').tHead.rows[0].cells].findIndex("
        "cell => cell.textContent === 'reads')]",
        board.row("mark").element_handle(),
    )
    page.evaluate(RISES, [column, "[0-9,]+"])
    for number in range(count):
        book.ask("vm.console.send('peek 0xd0000000\\n')")
        until(
            lambda number=number: board.number("mark", "reads") == number + 1,
            "the trap on the page",
        )
        page.wait_for_timeout(137 + 29 * (number % 7))  # out of step with the 10 looks a second
    marks = [float(one) for one in book.ask("vm.devices['mark'].peek('times')").split()]
    seen = {int(text): at for text, at in page.evaluate("() => window.rises") if text}
    lags = [seen[number] - mark for number, mark in enumerate(marks, 1) if number in seen]
    return plain("trap to its number on the page", lags, "ms", 200)


def echoing(board: Dashboard, count: int) -> Figure:
    """From the key to the character in the terminal, through kernel, guest and back."""
    page = board.page
    board.wait_text("vmlab>")
    board.focus()
    page.evaluate(RISES, [board.screen.element_handle(), "#"])
    page.evaluate(
        "() => { window.keys = []; window.addEventListener('keydown', event => { if (event.key === '#')"
        " window.keys.push(performance.timeOrigin + event.timeStamp) }, true) }"
    )
    lags: list[float] = []
    while len(lags) < count:
        page.keyboard.press("Control+u")
        until(lambda: not board.lines()[-1].endswith("#"), "an empty line")
        page.evaluate("() => { window.rises.length = window.keys.length = 0 }")
        for number in range(10):
            page.keyboard.press("#")
            until(
                lambda number=number: len(page.evaluate("() => window.rises")) > number, "the echo"
            )
            page.wait_for_timeout(53 + 31 * (number % 5))
        keys, rises = page.evaluate("() => [window.keys, window.rises]")
        lags += [at - key for key, (_, at) in zip(keys, rises, strict=False)]
    return plain("typed character to its echo on the page", lags[:count], "ms", 100)


def looking(lab: Lab, rounds: int) -> list[Figure]:
    """The guest's speed with the dashboard on the page, and without one."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = write_pvh_elf(Path(folder) / "loop.elf", trap_loop(0xFFFF_FFFF))
        cells = [TRAPS.format(kernel=str(kernel)), "view = vm.lab()\nview", "took = trap()"]
        book = lab.open(lab.server.write("looking.ipynb", cells))
        book.run(0)
        seen: list[tuple[float, float]] = []
        blind: list[tuple[float, float]] = []
        for number in range(rounds + 1):
            book.run(1)
            Dashboard(book, 1).wait()
            book.run(2)
            shown = book.ask("took")
            book.ask("view.close()")
            book.clear(1)
            book.run(2)
            if number:  # the first round warms up
                seen.append(shown)
                blind.append(book.ask("took"))
        book.ask("vm.stop()")
    clock, used = (
        ({"us a trap": [one[kind] for one in seen]}, {"us unwatched": [one[kind] for one in blind]})
        for kind in (0, 1)
    )
    return [
        ratio("guest watched / not watched, by the clock", *clock, 1.02),
        # a host without a core to spare for the browser slows the guest, but not this
        ratio("  by the time of its CPU", *used, 1.02),
    ]


# --- the soak ---------------------------------------------------------------------------------------


def soak(minutes: float, every: float = 20.0) -> list[Figure]:
    """A dashboard on a machine that is never idle: the memory of page and kernel, again and again."""
    with jupyter() as lab:
        cells = [MACHINE.format(engine="auto"), MARK, "vm.lab()", LIVELY]
        book = lab.open(lab.server.write("soak.ipynb", cells))
        book.run()
        Dashboard(book, 2).wait().open("mark")
        devtools = lab.page.context.new_cdp_session(lab.page)
        devtools.send("Performance.enable")
        end, samples = time.monotonic() + 60 * minutes, []
        began = time.monotonic()
        while time.monotonic() < end or len(samples) < 6:
            lab.page.wait_for_timeout(every * 1000)
            samples.append((page_memory(devtools), kernel_memory(book)))
            print(
                f"{(time.monotonic() - began) / 60:6.1f} min"
                f"   page {samples[-1][0]:6.1f} MB   kernel {samples[-1][1]:6.1f} MB",
                flush=True,
            )
        lab.check()
    pages, kernels = zip(*samples, strict=True)
    return [growth("page's heap", pages), growth("kernel's memory", kernels)]


#: the guest prints and the device traps, five times a second, whatever else happens
LIVELY = """
import threading
# what is kept of the output is full from the start: the kernel's, then the terminal's
vm.console.feed(b"x" * 79 + b"\\n")
for _ in range(100):
    vm.console.feed((b"x" * 79 + b"\\n") * 800)
for _ in range(100):
    vm.console.feed((b"y" * 9 + b"\\n") * 60)
    time.sleep(0.02)
def lively():
    while vm.state == "running":
        vm.console.send("peek 0xd0000000\\n")
        time.sleep(0.2)
threading.Thread(target=lively, daemon=True).start()
vm.devices["mark"]
"""


def page_memory(devtools: Any) -> float:
    """MB of the page's JavaScript heap, garbage collected."""
    devtools.send("HeapProfiler.collectGarbage")
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize") / 1e6)


def kernel_memory(book: Notebook) -> float:
    """MB that the kernel's process holds."""
    return float(book.ask("__import__('psutil').Process().memory_info().rss") / 1e6)


def growth(what: str, samples: tuple[float, ...]) -> Figure:
    """Between the second quarter and the last; the first one fills scrollbacks and caches."""
    quarter = max(len(samples) // 4, 1)
    before = statistics.median(samples[quarter : 2 * quarter])
    after = statistics.median(samples[-quarter:])
    of = {"MB before": before, "MB after": after}
    return Figure(f"growth of the {what}", after - before, "MB", 2, of, len(samples))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only this")
    options = parser.parse_args()
    work: Callable[[], list[Figure]] = (
        (lambda: soak(options.soak)) if options.soak else (lambda: measure(options.rounds))
    )
    try:
        figures = work()
    except NotHere as error:
        print(f"not measured: {error}")
        return 1
    for figure in figures:
        print(show(figure))
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
