"""A fault shows the lines of the device's author, wherever they were written, and no others."""

from __future__ import annotations

import linecache
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmlab import VM, Device
from vmlab.core.sources import told
from vmlab.core.units import parse_size
from vmlab.errors import ConfigError, DeviceFault
from vmlab.machine.config import Fault
from vmlab.vm.state import State

CELL, HELPERS = "/nowhere/cell-17.py", "/nowhere/cell-9.py"
HELP = """

def divided(one, other):
    return one // other  # the line of the helper
"""
SOURCE = """
from vmlab import Device, Registers, on_read, ro

class Base(Device):
    class regs(Registers):
        A = ro(0, "a")
        B = ro(4, "b")

    @on_read("B")
    def b(self):
        raise LookupError("b")  # the line of the base

class Broken(Base):
    @on_read("A")
    def a(self):
        return divided(1, 0)  # the line to be seen
"""


def written(name: str, source: str, names: dict[str, Any]) -> None:
    """As a notebook does it: the source is in this process's linecache, in no file."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), names)


@pytest.fixture
def cell() -> Iterator[dict[str, type[Device]]]:
    names: dict[str, type[Device]] = {"__name__": "__main__"}  # type: ignore[dict-item]
    written(HELPERS, HELP, names)
    written(CELL, SOURCE, names)
    yield names
    del linecache.cache[CELL], linecache.cache[HELPERS]


def test_lines_of_cells(engine: str, cell: dict[str, type[Device]]) -> None:
    """Of the class, of a function in another cell, of a base class; none of vmlab's own."""
    with VM(kernel="monitor", engine=engine) as vm:
        vm.console.expect("vmlab> ", timeout=20)
        vm.hot_add(cell["Broken"]())
        with pytest.raises(DeviceFault) as caught:
            vm.console.run("peek 0xd0000000", timeout=20)
        text = caught.value.traceback
        assert (
            f'  File "{CELL}", line 16, in a\n    return divided(1, 0)  # the line to be seen'
            in text
        )
        assert f'  File "{HELPERS}", line 4, in divided\n    return one // other' in text
        assert "the line to be seen" in vm.state.traceback
        assert text.count("  File ") == 2
        assert "dispatch" not in text
        assert text.rstrip().endswith("ZeroDivisionError: integer division or modulo by zero")


def test_lines_of_a_base_class(cell: dict[str, type[Device]]) -> None:
    with VM(kernel="monitor", engine="soft", devices=[cell["Broken"]()]) as vm:
        vm.console.expect("vmlab> ", timeout=20)
        with pytest.raises(DeviceFault) as caught:
            vm.console.run("peek 0xd0000004", timeout=20)
        assert "the line of the base" in caught.value.traceback


SCRIPT = """
    from vmlab import VM, Device, Registers, on_read, ro
    from vmlab.errors import DeviceFault

    class Broken(Device):
        class regs(Registers):
            A = ro(0, "a")

        @on_read("A")
        def a(self):
            return {}["the script's line"]

    if __name__ == "__main__":
        with VM("monitor", engine="soft", devices=[Broken()], isolate=ISOLATE) as vm:
            open(__file__, "w").write("# edited while it ran")
            vm.console.expect("vmlab> ", timeout=20)
            try:
                vm.console.run("peek 0xd0000000", timeout=20)
            except DeviceFault as error:
                print(error)
"""


@pytest.mark.parametrize("isolate", [True, False])
def test_a_line_of_a_script(tmp_path: Path, isolate: bool) -> None:
    script = tmp_path / "lab 1.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("ISOLATE", str(isolate)))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=True
    )
    assert f'File "{script}", line 11, in a\n' in done.stdout
    if isolate:  # the lines are those that were sent, not what the file has become
        assert """return {}["the script's line"]""" in done.stdout
    assert done.stdout.count("  File ") == 1


def test_a_fault_of_vmlabs_own_keeps_every_frame() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size("many")
    frames = told(caught.value).count("  File ")
    assert frames == 1  # the test's own
    assert "parse_size" in told(caught.value.with_traceback(caught.tb.tb_next))


def test_a_state_without_a_fault_has_no_traceback() -> None:
    assert State("running").traceback == ""
    assert State("paused", fault=Fault("dice0", "failed", "")).traceback == ""
