"""The console device under the monitor's driver, on both engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vms import PATIENCE, PROMPT
from vmlab import VM
from vmlab.virtio import Console


@pytest.fixture(params=[1, 2], ids=["one port", "two ports"])
def vm(engine: str, request: pytest.FixtureRequest) -> Iterator[VM]:
    with VM(kernel="monitor", engine=engine, devices=[Console(ports=request.param)]) as vm:
        vm.console.expect(PROMPT, timeout=PATIENCE)
        yield vm


def test_both_ways(vm: VM) -> None:
    console = vm.consoles["console0"]
    assert "sent" in vm.console.run("con send hello there")
    console.expect("hello there", timeout=PATIENCE)
    assert console is vm.devices["console0"].console
    assert console.send("typed\n") == 6
    for _ in range(50):
        said = vm.console.run("con read")
        if "nothing" not in said:
            break
    assert "typed" in said
    assert "hello there" not in vm.consoles["com1"].text.replace("con send hello there", "")


def test_the_window_changes_its_size(vm: VM) -> None:
    vm.devices["console0"].resize(100, 50)
    vm.console.expect("100 columns, 50 rows", timeout=PATIENCE)


def test_what_a_machine_said_outlives_it(engine: str) -> None:
    vm = VM(kernel="monitor", engine=engine, devices=[Console()])
    with vm:
        vm.console.expect(PROMPT, timeout=PATIENCE)
        vm.console.run("con send last words")
        vm.consoles["console0"].expect("last words", timeout=PATIENCE)
    assert "last words" in vm.consoles["console0"].text
    with pytest.raises(Exception, match="the machine is stopped"):
        vm.consoles["console0"].expect("more", timeout=1)
