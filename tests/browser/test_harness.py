"""The harness itself: what it must notice, it notices."""

from __future__ import annotations

import pytest

from tests.browser.lab import Lab

WIDGET = """
import anywidget, traitlets
class Count(anywidget.AnyWidget):
    _esm = '''
    function render({ model, el }) {
        const button = document.createElement("button")
        const show = () => { button.textContent = `count ${model.get("value")}` }
        button.onclick = () => { model.set("value", model.get("value") + 1); model.save_changes() }
        model.on("change:value", show)
        show()
        el.append(button)
    }
    export default { render }
    '''
    value = traitlets.Int(0).tag(sync=True)
one = Count()
one
"""


def test_a_widget_and_its_kernel_meet(lab: Lab) -> None:
    book = lab.open(lab.server.write("widget.ipynb", ["print('here')", WIDGET]))
    book.run()
    assert book.text(0) == "here\n"
    button = book.cell(1).get_by_role("button", name="count 0")
    button.click()
    book.cell(1).get_by_role("button", name="count 1").wait_for()
    assert book.ask("one.value") == 1
    book = lab.reload()
    book.cell(1).get_by_role("button", name="count 1").wait_for()


def test_complaints_are_noticed(lab: Lab) -> None:
    book = lab.open(lab.server.write("complaints.ipynb", [""]))
    lab.check()
    book.page.evaluate(
        "() => { console.error('odd'); setTimeout(() => { throw new Error('thrown') });"
        " fetch('http://127.0.0.2:9/').catch(() => {}) }"
    )
    book.page.wait_for_timeout(100)
    with pytest.raises(AssertionError, match="odd") as found:
        lab.check()
    assert "thrown" in str(found.value)
    assert "another host: http://127.0.0.2:9/" in str(found.value)
    lab.complaints.clear()
