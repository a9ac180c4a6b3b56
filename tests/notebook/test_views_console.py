"""The terminal's side in the kernel: replay, back-pressure, bursts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.notebook.page import ManualPump, Page
from tests.support import require_module
from tests.waiting import until
from vmlab import VM
from vmlab.errors import DeviceNotFound

require_module("anywidget")

from vmlab.notebook.console import LATE, REPLAY, WINDOW, ConsoleView


@pytest.fixture
def vm() -> Iterator[VM]:
    made = VM(kernel="monitor", engine="soft")
    yield made
    made.stop()


@pytest.fixture
def view(vm: VM) -> Iterator[Any]:
    made = ConsoleView(vm, pump=ManualPump())
    yield made
    made.close()


def settle(view: ConsoleView, page: Page) -> None:
    """The page draws everything that it is sent."""
    while True:
        before = len(page.told)
        view.flush()
        if len(page.told) == before:
            return
        page.say("drawn", at=page.told[-1][0]["at"])


def test_a_page_that_comes_late_is_told_what_there_was(vm: VM, view: Any) -> None:
    vm.console.feed(b"one\r\n")
    first = Page(view, "first").arrive()
    settle(view, first)
    vm.console.feed(b"two\r\n")
    second = Page(view, "second").arrive()
    settle(view, second)
    settle(view, first)
    assert first.output == second.output == b"one\r\ntwo\r\n"
    assert second.heard("replay") == [{"kind": "replay", "to": "second", "at": 0, "end": 10}]


def test_no_more_is_sent_than_is_drawn(vm: VM, view: Any) -> None:
    page = Page(view).arrive()
    vm.console.feed(b"x" * (LATE - 1))
    view.flush()
    view.flush()
    assert len(page.output) == WINDOW
    page.say("drawn", at=WINDOW // 2)
    view.flush()
    assert len(page.output) == WINDOW + WINDOW // 2
    settle(view, page)
    page.say("drawn", at=page.told[-1][0]["at"])
    settle(view, page)
    assert len(page.output) == LATE - 1


def test_a_burst_of_10_mb_is_skipped_and_said_so(vm: VM, view: Any) -> None:
    page = Page(view).arrive()
    for number in range(160):
        vm.console.feed(b"%07d\n" % number * (8 << 10))
    assert len(vm.console.data) < 6 << 20
    settle(view, page)
    [skipped] = page.heard("skipped")
    assert skipped["bytes"] == 160 * (64 << 10) - REPLAY
    assert len(page.output) == REPLAY
    assert page.output.endswith(b"0000159\n")


def test_a_page_that_draws_nothing_costs_nothing(vm: VM, view: Any) -> None:
    page = Page(view).arrive()
    for _ in range(200):
        vm.console.feed(b"y" * (64 << 10))
        view.flush()
    assert len(page.output) <= WINDOW


def test_lies_about_what_was_drawn_are_not_believed(vm: VM, view: Any) -> None:
    page = Page(view).arrive()
    vm.console.feed(b"abc")
    view.flush()
    for at in (-5, 1 << 70, "3", None, 2.5, True):
        page.say("drawn", at=at)
    assert view._clients[page.name].drawn in (0, 1)
    vm.console.feed(b"def")
    view.flush()
    assert page.output == b"abcdef"


def test_what_is_typed_into_a_machine_that_does_not_run_is_answered_in_words(
    vm: VM, view: Any
) -> None:
    page = Page(view).arrive()
    vm.stop()
    page.say("type", text="x")
    assert until(lambda: page.heard("trouble"), "words")[0]["text"]


def test_too_much_typed_is_refused(view: Any) -> None:
    page = Page(view).arrive()
    page.say("type", text="z" * (2 << 20))
    assert "has not taken" in page.heard("trouble")[0]["text"]


def test_no_such_console(vm: VM) -> None:
    with pytest.raises(DeviceNotFound, match="no console 'nope'"):
        vm.console_view("nope")


def test_a_terminal_on_a_virtio_console_tells_its_size(engine: str) -> None:
    from vmlab.virtio import Console

    with VM(kernel="hello", engine=engine, devices=[Console()]) as vm:
        view = vm.console_view("console0")
        page = Page(view).arrive()
        page.say("resize", columns=132, rows=43)
        until(lambda: vm.devices["console0"].peek("ports")[0]["cols"] == 132, "the new size")
        vm.consoles["console0"].feed(b"from the port")
        until(lambda: page.output == b"from the port", "its output")
        page.say("resize", columns=0, rows=5)
        assert "1 to 1000" in page.heard("trouble")[0]["text"]
        view.close()
