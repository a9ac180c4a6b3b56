"""The text screen's view: what the page is shown, what it may send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels.screen import echo
from tests.notebook.page import ManualPump, Page
from tests.support import require_module
from tests.vms import monitor
from tests.waiting import until
from vmlab import VM
from vmlab.errors import StateError

require_module("anywidget")

from vmlab.notebook import html
from vmlab.notebook.screen import MOST, ScreenView


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with VM(echo(), engine=engine) as made:
        made.screen.expect("ready")
        yield made


@pytest.fixture
def view(vm: VM) -> Iterator[ScreenView]:
    made = ScreenView(vm, pump=ManualPump())
    yield made
    made.close()


def test_it_is_told_of_what_is_new_alone(vm: VM, view: ScreenView) -> None:
    page = Page(view).arrive()
    first, second = view.snapshot["screen"]["lines"][0]
    assert first == ["ready", 0x1E]
    assert second == [" " * 75, 0x07]
    assert view.snapshot["screen"]["cursor"] == [0, 0]
    assert not view.refresh()
    page.say("keys", keys=[["KeyA", True], ["KeyA", False]])
    vm.screen.expect("1e9e")
    until(view.refresh, "news")
    assert view.snapshot["screen"]["lines"][1][0][0].startswith("1e9e")


def test_what_a_page_should_not_send(vm: VM, view: ScreenView) -> None:
    page = Page(view).arrive()
    for keys in (None, "KeyA", [["KeyA", True]] * (MOST + 1)):
        page.say("keys", keys=keys)
    assert len(page.heard("trouble")) == 3
    page.say("keys", keys=[["Nokey", True], ["KeyB"], 7, ["KeyB", "yes"], [[], True]])
    page.say("keys", keys=[["KeyZ", True]])
    # "yes" is not True: that key is let go
    vm.screen.expect("b02c")


def test_keys_for_a_machine_that_has_ended(vm: VM, view: ScreenView) -> None:
    page = Page(view).arrive()
    vm.stop()
    page.say("keys", keys=[["KeyA", True]])
    until(lambda: page.heard("trouble"), "words")
    assert page.heard("trouble")[0]["what"] == "screen"
    assert "ready" in view._repr_html_()


def test_without_a_kernel_it_is_there_in_colour(vm: VM) -> None:
    assert '<span style="color:#ffff55;background:#0000aa">ready</span>' in html.page(vm)


def test_a_machine_without_one(engine: str) -> None:
    with monitor(engine) as vm:
        with pytest.raises(StateError, match="no text screen"):
            vm.screen_view()
        assert "<span" not in html.page(vm)
