"""What a student sees in a notebook: one line of news, their own lines, no machine left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import require_module

for name in ("ipykernel", "jupyter_client"):
    require_module(name)

from tests.notebook.kernel import Kernel, kernel

DICE = """
class Dice(Device):
    class regs(Registers):
        ROLL = ro(0x00, "a new roll each read")
        SIDES = rw(0x04, "number of sides", reset=6)

    @on_read("ROLL")
    def roll(self):
        print("rolling", self.r.SIDES)
        return 3 // zero
"""
START = "vm = VM('monitor', engine='soft').start(); at = vm.console.expect('vmlab> ', timeout=20)"


@pytest.fixture(scope="module")
def cells() -> Iterator[Kernel]:
    with kernel() as made:
        made.run("from vmlab import *\nzero = 0")
        yield made


def test_an_error_is_the_own_line_and_the_news(cells: Kernel) -> None:
    shown = cells.run("VM('minitor')").error
    assert "vmlab/" not in shown
    assert shown.splitlines()[-1].startswith("KernelError: kernel 'minitor': no such file")
    assert "did you mean 'monitor'?" in shown
    assert len([line for line in shown.splitlines() if line.strip()]) == 5
    for code, news in (
        ("VM(memory='64')", 'did you mean "64M"?'),
        ("VM(memory=64)", 'did you mean "64M"?'),
        ("VM(engine='kmv')", "did you mean 'kvm'? there are auto, kvm and soft"),
        ("VM(devices=5)", "give a list of them"),
        ("VM(kernel=None)", "a bundled kernel's name"),
        ("kernels.path('helo')", "did you mean 'hello'?"),
    ):
        shown = cells.run(code).error
        assert news in shown.splitlines()[-1]
        assert "vmlab/" not in shown


def test_a_cause_inside_of_vmlab_is_not_shown_and_all_is_on_demand(cells: Kernel) -> None:
    code = "from vmlab.virtio import Disk; Disk('nothing.img')"
    assert "direct cause" not in cells.run(code).error
    cells.run("%xmode Verbose")
    assert "direct cause" in cells.run(code).error
    cells.run("%xmode Context")


def test_the_line_of_a_cell_and_the_running_cells_output(cells: Kernel) -> None:
    cells.run(START)
    cells.run(DICE)
    number = int(cells.run("len(In) - 2").result)
    cells.run("vm.hot_add(Dice())")
    cell = cells.run("vm.console.run('peek 0xd0000000', timeout=20)")
    assert "rolling 6\n" in cell.printed
    assert f"  Cell In[{number}], line 9, in roll\n" in cell.error
    assert "    return 3 // zero\n" in cell.error
    assert "vmlab/" not in cell.error
    assert cell.error.rstrip().splitlines()[-1].strip().startswith("ZeroDivisionError")
    assert "rolling 6" in cells.run("vm.log").result
    cells.run("zero = 1")  # a changed global
    assert not cells.run("_ = vm.replace('dice0'); vm.resume()").error
    assert "0x00000003" in cells.run("vm.console.run('peek 0xd0000000')").result
    cells.run("vm.stop()")


def test_the_newest_class_takes_its_place(cells: Kernel) -> None:
    cells.run(START)
    cells.run(DICE)
    cells.run("dice = Dice(); vm.hot_add(dice)")
    assert "run the cell that defines it" in cells.run("vm.replace('dice0')").error
    cells.run(DICE.replace("3 // zero", "4"))
    assert not cells.run("vm.replace('dice0')").error
    assert "0x00000004" in cells.run("vm.console.run('peek 0xd0000000')").result
    cells.run("vm.stop()")


def test_names_complete(cells: Kernel) -> None:
    cells.run(START)
    for table in ("devices", "traps", "irqs", "consoles"):
        assert "com1" in cells.complete(f'vm.{table}["')
    cells.run("vm.stop()")


def test_a_cell_that_is_run_again_leaves_one_machine(cells: Kernel) -> None:
    assert not cells.run(START).printed
    cells.run("old = vm.pid")
    again = cells.run(START)
    assert "'monitor' has been stopped" in again.printed
    assert cells.run("import os; os.path.exists(f'/proc/{old}')").result == "False"
    assert cells.run("vm.name, str(vm.state)").result == "('monitor', 'running')"
    cells.run("kept = vm")
    assert not cells.run(START).printed.count("stopped")
    assert cells.run("str(kept.state), vm.name").result == "('running', 'monitor-2')"
    cells.run("vms = [vm]")
    assert "runs on beside" in cells.run(START).printed
    assert cells.run("str(vms[0].state)").result == "'running'"
    cells.run("[one.stop() for one in (kept, vm, *vms)]")
    # several of one run belong together
    two = "a, b = VM('monitor', engine='soft').start(), VM('monitor', engine='soft').start()"
    assert not cells.run(two).printed
    assert cells.run(two).printed.count("has been stopped") == 2
    cells.run("a.stop(), b.stop()")
    with_block = "with VM('monitor', engine='soft') as vm:\n    first = vm.pid"
    assert not cells.run(with_block).printed
