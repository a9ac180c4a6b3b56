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
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

__all__ = ["Browser", "Lab", "Notebook", "Server", "find_browser", "free_port", "until"]

ROOT = Path(__file__).resolve().parent.parent.parent
#: screenshots and logs; git ignores it
ARTIFACTS = ROOT / "artifacts"
#: Debian's name first, then what other systems call it
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
#: seconds that a server or a kernel may need on a busy host
SLOW = 60.0
TOKEN = "token-of-a-test"

#: JupyterLab moves a page on whose workspace another one shows
WORKSPACES = (f"test-{number}" for number in itertools.count())

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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def until(condition: Callable[[], object], what: str, timeout: float = 20.0) -> Any:
    """The first true value of `condition`, asked again and again; fails with `what`."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout:g} s there was not: {what}")
        time.sleep(0.02)
    return found


class Server:
    """JupyterLab and Notebook 7 in one server process, with settings, kernels and state of its own."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.books = folder / "notebooks"
        self.books.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"

    def __enter__(self) -> Self:
        config = self.folder / "config"
        labconfig = config / "labconfig"
        labconfig.mkdir(parents=True)
        # Else the server would ask other hosts for news.
        quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (labconfig / "page_config.json").write_text(json.dumps(quiet))
        (config / "jupyter_server_config.json").write_text(json.dumps(self._settings()))
        env = {
            **os.environ,
            **self._env,
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--expose-app-in-browser"],
                cwd=self.books,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(self._answers, "an answer of the Jupyter server", SLOW)
        except BaseException:
            self.stop()
            raise
        return self

    def _settings(self) -> dict[str, Any]:
        return {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": self.port,
                "port_retries": 0,
                "root_dir": str(self.books),
                "jpserver_extensions": {"jupyterlab": True, "notebook": True},
            },
            "IdentityProvider": {"token": TOKEN},
            "JupyterNotebookApp": {"expose_app_in_browser": True},
        }

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"the Jupyter server ended:\n{self.log.read_text()[-4000:]}")
        try:
            self.ask("status")
        except OSError:
            return False
        return True

    def ask(self, path: str, method: str = "GET") -> Any:
        """The server's REST interface; `path` is below /api."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", method=method, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def write(self, name: str, cells: Sequence[str]) -> str:
        """A notebook of these code cells; its path as the server knows it."""
        book = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
            "cells": [
                {
                    "id": f"cell-{number}",
                    "cell_type": "code",
                    "source": source,
                    "metadata": {},
                    "outputs": [],
                    "execution_count": None,
                }
                for number, source in enumerate(cells)
            ],
        }
        (self.books / name).write_text(json.dumps(book))
        return name

    def kernels(self) -> list[str]:
        return [one["id"] for one in self.ask("kernels")]

    def forget(self) -> None:
        """End every kernel, drop every setting: the next page finds the server as new."""
        for one in self.ask("sessions"):
            with contextlib.suppress(urllib.error.HTTPError):
                self.ask(f"sessions/{one['id']}", "DELETE")
        for one in self.kernels():
            with contextlib.suppress(urllib.error.HTTPError):
                self.ask(f"kernels/{one}", "DELETE")
        for name in ("user-settings", "workspaces"):
            shutil.rmtree(self.folder / "config" / "lab" / name, ignore_errors=True)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self.forget()  # kernels that outlive the server would hold their machines
        self.stop()


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            self.page.goto(f"{self.server.url}/notebooks/{path}?token={TOKEN}")
        else:
            self.page.goto(
                f"{self.server.url}/lab/workspaces/{next(WORKSPACES)}?token={TOKEN}&reset"
            )
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
    def responsive(self, most: float = 500.0) -> Iterator[None]:
        """Fail when the page's thread was held up for longer than `most` ms meanwhile."""
        self.page.evaluate(WATCH_PAUSES)
        yield
        worst = self.page.evaluate("() => window.worstPause()")
        assert worst <= most, f"the page stood still for {worst:.0f} ms"


class Notebook:
    """The notebook that a page shows."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.page = lab, lab.page

    def run(self, *numbers: int, wait: bool = True) -> None:
        """Run these cells, or all; with `wait` until they have ended, and without an error."""
        self.page.evaluate(RUN, list(numbers))
        if wait:
            self.finish(*numbers)

    def finish(self, *numbers: int, timeout: float = SLOW) -> None:
        for number in numbers or range(
            self.page.evaluate("() => window.book.content.widgets.length")
        ):
            self.page.wait_for_function(ENDED, arg=number, timeout=timeout * 1000)
            outputs = self.outputs(number)
            for one in outputs:
                assert one["output_type"] != "error", "\n".join(one["traceback"])

    def run_new(self, source: str, wait: bool = True) -> int:
        """Put a cell beneath the others and run it; its number."""
        number: int = self.page.evaluate(APPEND, source)
        self.run(number, wait=wait)
        return number

    def ask(self, expression: str) -> Any:
        """The value of a Python expression in the kernel, without touching the notebook."""
        return self.page.evaluate(
            ASK, f"__import__('IPython').display.JSON({{'it': {expression}}})"
        )

    def outputs(self, number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(
            "number => window.book.content.widgets[number].model.sharedModel.getOutputs()", number
        )
        return found

    def text(self, number: int) -> str:
        """What a cell printed."""
        return "".join(
            "".join(one.get("text", "")) for one in self.outputs(number) if "text" in one
        )

    def cell(self, number: int) -> Locator:
        return self.page.locator(f".jp-Notebook .jp-Cell:nth-of-type({number + 1})")

    def clear(self, number: int) -> None:
        """Remove a cell's output."""
        self.page.evaluate(
            "number => window.book.content.widgets[number].model.sharedModel.setOutputs([])", number
        )

    def interrupt(self) -> None:
        self.page.evaluate("() => window.book.sessionContext.session.kernel.interrupt()")

    def restart(self) -> None:
        self.page.evaluate(RESTART)


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

RUN = """async numbers => {
    const app = window.jupyterapp, book = window.book.content
    for (const cell of book.widgets)
        if (!numbers.length || numbers.includes(book.widgets.indexOf(cell)))
            cell.model.sharedModel.execution_count = null
    if (!numbers.length) {
        app.commands.execute('notebook:run-all-cells')
        return
    }
    for (const number of numbers) {
        book.deselectAll()
        book.activeCellIndex = number
        app.commands.execute('notebook:run-cell')
    }
}"""

ENDED = """number => {
    const model = window.book.content.widgets[number].model
    return model.executionState !== 'running' && model.sharedModel.execution_count !== null
}"""

APPEND = """source => {
    const model = window.book.content.model.sharedModel
    model.addCell({cell_type: 'code', source, metadata: {}})
    return model.cells.length - 1
}"""

ASK = """async expression => {
    const kernel = window.book.sessionContext.session.kernel
    const future = kernel.requestExecute({
        code: '', silent: true, store_history: false, user_expressions: {it: expression},
    })
    const reply = await future.done
    const found = reply.content.user_expressions.it
    if (found.status !== 'ok') throw new Error(found.evalue)
    return found.data['application/json'].it
}"""

RESTART = """async () => {
    await window.book.sessionContext.session.kernel.restart()
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
