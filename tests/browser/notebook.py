"""A notebook on a page: its cells run, its kernel asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.browser.server import SLOW

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Lab

__all__ = ["Notebook"]


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
