"""Tracebacks of devices show lines that only the notebook's process has."""

from __future__ import annotations

import linecache
from collections.abc import Iterator

import pytest

from vmlab import VM, Device
from vmlab.errors import DeviceFault
from vmlab.machine.config import Fault
from vmlab.views import State, with_sources

CELL = "/nowhere/cell-17.py"
SOURCE = """
from vmlab import Device, Registers, on_read, ro

class Broken(Device):
    class regs(Registers):
        A = ro(0, "a")

    @on_read("A")
    def a(self):
        return 1 // 0  # the line to be seen
"""


@pytest.fixture
def cell() -> Iterator[dict[str, type[Device]]]:
    """What a notebook's cell has defined: its source is in this process's linecache, in no file."""
    linecache.cache[CELL] = (len(SOURCE), None, SOURCE.splitlines(keepends=True), CELL)
    names: dict[str, type[Device]] = {"__name__": "__main__"}  # type: ignore[dict-item]
    exec(compile(SOURCE, CELL, "exec"), names)
    yield names
    del linecache.cache[CELL]


def test_a_line_of_a_cell(engine: str, cell: dict[str, type[Device]]) -> None:
    with VM(kernel="monitor", engine=engine) as vm:
        vm.console.expect("vmlab> ", timeout=20)
        vm.hot_add(cell["Broken"]())
        with pytest.raises(DeviceFault) as caught:
            vm.console.run("peek 0xd0000000", timeout=20)
        assert "return 1 // 0  # the line to be seen" in caught.value.traceback
        assert "the line to be seen" in vm.state.traceback


def test_lines_that_are_there_already_and_lines_that_nobody_has() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/nowhere/a.py", line 3, in read\n'
        "    return reader()\n"
        '  File "/nowhere/b.py", line 4, in a\n'
        "ValueError: no"
    )
    assert with_sources(text) == text


def test_a_state_without_a_fault_has_no_traceback() -> None:
    assert State("running").traceback == ""
    assert State("paused", fault=Fault("dice0", "failed", "")).traceback == ""
