"""A Jupyter server, a browser, and notebooks in it: what the tests in a browser stand on.

    with Server(folder) as server, Browser() as browser:
        page = browser.page(server)
        book = page.open(server.write("one.ipynb", ["1 + 1"]))
        book.run()
        page.check()

Everything that a page complains of, and every request that it makes to another host, is collected;
`check` fails on any.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tests.browser.notebook import Notebook
from tests.browser.server import SLOW, TOKEN, Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["Browser", "Lab", "find_browser"]

ROOT = Path(__file__).resolve().parent.parent.parent
#: screenshots and logs; git ignores it
ARTIFACTS = ROOT / "artifacts"
#: Debian's name first, then what other systems call it
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
#: JupyterLab moves a page on whose workspace another one shows
WORKSPACES = (f"test-{number}" for number in itertools.count())

#: milliseconds that a page may stand still; other workers' tests take their share of the cores
STANDSTILL = 1000.0 if "PYTEST_XDIST_WORKER" in os.environ else 500.0

#: what pages say that is not about us, and why it is let pass
HARMLESS = {
    # Notebook 7.6 itself, whatever is opened
    "page error: Cannot read properties of undefined (reading 'schema')": "Notebook 7",
}


def find_browser() -> str | None:
    """The path of a browser of Chromium's kind."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    return None


class Browser:
    """Chromium. Its pages share a cache, so that JupyterLab is compiled once."""

    def __init__(self, program: str | None = None, scale: float = 1.0) -> None:
        self._program = program or find_browser()
        self._scale = scale

    def __enter__(self) -> Self:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        flags = ["--disable-background-networking", "--disable-component-update"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium as root does not start with it
        try:
            self._chromium = self._playwright.chromium.launch(
                executable_path=self._program, args=flags
            )
            self.context = self._chromium.new_context(
                viewport={"width": 1280, "height": 1000}, device_scale_factor=self._scale
            )
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def page(self, server: Server) -> Lab:
        return Lab(self, server, self.context.new_page())

    def __exit__(self, *_: object) -> None:
        self._chromium.close()
        self._playwright.stop()


class Lab:
    """A page with JupyterLab, or with Notebook 7."""

    def __init__(self, browser: Browser, server: Server, page: Page) -> None:
        self.browser, self.server, self.page = browser, server, page
        self.complaints: list[str] = []
        #: complaints with any of these words are expected by the test
        self.allowed: list[str] = []
        self._path = ""
        page.set_default_timeout(15_000)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._complain(f"page error: {error}"))
        page.on("crash", lambda _: self._complain("the page crashed"))
        page.on("request", lambda request: self._on_request(request.url))
        page.on("websocket", lambda socket: self._on_request(socket.url))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self._complain(f"console: {message.text} ({where})")

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.port != self.server.port:
            self._complain(f"request to another host: {url}")

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    def check(self) -> None:
        """Fail when the page had anything to complain of."""
        found = [
            one
            for one in self.complaints
            if not any(words in one for words in [*HARMLESS, *self.allowed])
        ]
        assert not found, "\n".join(["the page complains:", *found])

    def open(self, path: str, notebook7: bool = False) -> Notebook:
        """Show the notebook, with its kernel up."""
        if notebook7:
            where = f"notebooks/{path}?token={TOKEN}"
        else:
            where = f"lab/workspaces/{next(WORKSPACES)}?token={TOKEN}&reset"
        self.page.goto(f"{self.server.url}/{where}", timeout=SLOW * 1000)
        self._path = path
        self._open()
        return Notebook(self)

    def _open(self) -> None:
        self.page.wait_for_function("() => window.jupyterapp !== undefined", timeout=SLOW * 1000)
        self.page.evaluate(OPEN, self._path)

    def reload(self) -> Notebook:
        """The button that people press when something looks odd."""
        # what was not saved is lost, and JupyterLab would ask about it
        self.page.evaluate("() => window.book.context.save()")
        self.page.reload()
        self._open()
        return Notebook(self)

    def command(self, name: str, **arguments: Any) -> None:
        """A command of JupyterLab; waits for its end."""
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args) }",
            [name, arguments],
        )

    def shoot(self, name: str) -> Path:
        """A picture among the artifacts."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / (re.sub(r"[^\w.-]+", "-", name).strip("-") + ".png")
        self.page.screenshot(path=path)
        return path

    @contextlib.contextmanager
    def responsive(self, most: float = STANDSTILL) -> Iterator[None]:
        """Fail when the page's thread was held up for longer than `most` ms meanwhile."""
        self.page.evaluate(WATCH_PAUSES)
        yield
        worst = self.page.evaluate("() => window.worstPause()")
        assert worst <= most, f"the page stood still for {worst:.0f} ms"


OPEN = """async path => {
    const app = window.jupyterapp
    await app.restored
    const open = app.commands.hasCommand('docmanager:open')
    let panel = app.shell.currentWidget
    if (!panel?.context || panel.context.path !== path)
        panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'})
    window.book = panel ?? app.shell.currentWidget
    await window.book.context.ready
    await window.book.sessionContext.ready
    await window.book.sessionContext.session.kernel.info
}"""

#: the longest time between two turns of the page's loop
WATCH_PAUSES = """() => {
    let last = performance.now(), worst = 0, on = true
    const turn = () => {
        const now = performance.now()
        worst = Math.max(worst, now - last)
        last = now
        if (on) setTimeout(turn, 0)
    }
    turn()
    window.worstPause = () => { on = false; turn(); return worst }
}"""
