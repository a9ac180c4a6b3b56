"""`await vm.wait_for`, `await vm.until`, and their blocking form."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from vmlab import VM
from vmlab.errors import ExpectTimeout, StateError


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with VM(kernel="monitor", engine=engine) as machine:
        yield machine


def test_wait_for_lets_other_tasks_go_on(vm: VM) -> None:
    async def play() -> Any:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await vm.wait_for("> $")
        vm.console.send("timer 50000\n")
        await vm.wait_for("tick after")
        await vm.wait_for("> $")
        ticking.cancel()
        return ticks

    assert asyncio.run(play()) > 5


def test_until_gives_the_value(vm: VM) -> None:
    value = asyncio.run(
        vm.until(lambda v: v.traps["com1"].writes if v.traps["com1"].writes > 5 else 0)
    )
    assert value > 5


@pytest.mark.parametrize("wait", ["until", "wait_until"])
def test_a_condition_that_stays_false(vm: VM, wait: Any) -> None:
    def play() -> Any:
        result = getattr(vm, wait)(lambda v: v.traps["com1"].writes < 0, timeout=0.05)
        return asyncio.run(result)

    with pytest.raises(ExpectTimeout, match=re.escape("still False after 0.05 s")):
        play()


def test_wait_for_text_that_never_comes(vm: VM) -> None:
    with pytest.raises(ExpectTimeout, match="nonsense"):
        asyncio.run(vm.wait_for("nonsense", timeout=0.1))


def test_wait_for_a_machine_that_has_ended(vm: VM) -> None:
    vm.console.expect("> $")
    vm.console.send("exit 0\n")
    vm.wait(5)
    with pytest.raises(StateError, match="stopped"):
        asyncio.run(vm.wait_for("nonsense", timeout=2))
