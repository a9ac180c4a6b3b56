"""An interrupt line as a device drives it."""

from __future__ import annotations

import threading

import pytest

from vmlab.core import irq
from vmlab.core.counters import CounterPage
from vmlab.core.irq import IrqLine, SharedLine


class Sink:
    def __init__(self, taken: bool | None = True) -> None:
        self.taken = taken
        self.calls: list[object] = []

    def set(self, level: bool) -> bool | None:
        self.calls.append(level)
        return self.taken

    def pulse(self) -> bool | None:
        self.calls.append("pulse")
        return self.taken

    def close(self) -> None:
        self.calls.append("close")


def test_only_changes_reach_the_engine() -> None:
    sink, page = Sink(), CounterPage()
    line = IrqLine(5, sink, page)
    for level in (False, True, True, False, False, True):
        line.set(level)
        assert line.level is level
        assert page.line(5)[2] is level
    assert sink.calls == [True, False, True]
    assert (line.raised, line.delivered) == (2, 2)
    assert page.line(5) == (2, 2, True)


@pytest.mark.parametrize(("taken", "delivered"), [(True, 2), (False, 0), (None, None)])
def test_delivered_is_what_the_controllers_took(taken: bool | None, delivered: int | None) -> None:
    line = IrqLine(5, Sink(taken), CounterPage())
    line.set(True)
    line.set(False)
    line.pulse()
    assert (line.raised, line.delivered) == (2, delivered)


def test_close_tells_the_engine_once() -> None:
    sink, page = Sink(), CounterPage()
    line = IrqLine(5, sink, page)
    line.set(True)
    line.close()
    line.close()
    line.set(True)
    assert sink.calls == [True, "close"]
    assert not page.line(6)[2]


def test_a_line_without_an_engine_remembers_and_counts() -> None:
    line = IrqLine()
    line.set(True)
    line.pulse()
    assert (line.level, line.raised, line.delivered) == (True, 2, 0)


@pytest.mark.parametrize("number", [None, -1, 256, 1019])
def test_a_line_that_the_page_has_no_words_for_counts_elsewhere(number: int | None) -> None:
    page = CounterPage()
    page.format()
    before = bytes(page.words)
    line = IrqLine(number, None, page)
    line.set(True)
    line.pulse()
    assert line.raised == 2
    assert bytes(page.words) == before


def test_a_line_is_renewed_by_an_edge() -> None:
    sink = Sink()
    line = IrqLine(5, sink)
    line.set(True)
    line.renew()
    assert (sink.calls, line.level, line.raised) == ([True, False, True], True, 2)


def test_a_shared_line_is_up_while_one_of_its_holders_is() -> None:
    sink, page = Sink(None), CounterPage()
    shared = SharedLine(IrqLine(17, sink, page))
    first, second = shared.hold(), shared.hold()
    first.set(True)
    second.set(True)
    second.set(True)
    first.set(False)
    assert (sink.calls, page.line(17)) == ([True], (1, None, True))
    assert (first.level, second.level, first.number) == (False, True, 17)
    second.set(False)
    assert (sink.calls, page.line(17)) == ([True, False], (1, None, False))
    first.pulse()
    assert sink.calls[2:] == [True, False]
    second.set(True)
    first.pulse()
    assert (sink.calls[4:], second.raised) == ([True], 3), "it is merged"
    second.close()
    second.close()
    second.set(True)
    second.pulse()
    assert sink.calls[5:] == [False]
    assert shared.held
    first.set(True)
    first.close()
    assert (sink.calls[6:], shared.held) == ([True, False, "close"], False)


def test_a_line_that_is_closed_counts_and_drives_nothing() -> None:
    sink, page = Sink(), CounterPage()
    page.format()
    line = IrqLine(5, sink, page)
    line.set(True)
    line.close()
    before = bytes(page.words)
    for late in (line.pulse, line.renew, lambda: line.set(True)):
        late()
    assert bytes(page.words) == before
    assert page.line(5) == (1, 1, False)
    assert sink.calls == [True, "close"]


@pytest.mark.skipif(
    not irq.__file__.endswith(".py"), reason="a compiled line has no __setattr__ to be late in"
)
def test_a_call_that_outlives_its_line_writes_no_level() -> None:
    """Between its check and its write the line is closed."""
    page = CounterPage()
    page.format()

    class Late(IrqLine):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "level" and value is True:
                self.close()

    line = Late(5, Sink(), page)
    line.set(True)
    assert page.line(5) == (0, 0, False)


def test_a_holder_that_left_meanwhile_drives_a_shared_line_no_more() -> None:
    sink, page = Sink(None), CounterPage()
    shared = SharedLine(IrqLine(17, sink, page))
    leaver, other = shared.hold(), shared.hold()
    leaver.close()
    # what its `set` and `pulse` call next, when they had found the line held
    shared.drive(id(leaver), True)
    shared.pulse(id(leaver))
    assert (sink.calls, page.line(17)) == ([], (0, 0, False))
    other.set(True)
    other.set(False)
    other.close()
    assert sink.calls == [True, False, "close"]


def test_a_device_that_drives_its_line_while_it_is_unplugged_leaves_it_down() -> None:
    stop = threading.Event()
    for _ in range(300):
        sink = Sink()
        shared = SharedLine(IrqLine(17, sink))
        leaver, other = shared.hold(), shared.hold()
        stop.clear()
        thread = threading.Thread(target=_toggle, args=(leaver, stop))
        thread.start()
        leaver.set(False)
        leaver.close()
        stop.set()
        thread.join()
        assert sink.calls[-1:] != [True]
        other.close()


def _toggle(line: IrqLine, stop: threading.Event) -> None:
    while not stop.is_set():
        line.set(True)
        line.set(False)
