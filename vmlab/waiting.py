"""Waiting for a machine, blocking and with `await`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from vmlab.errors import ExpectTimeout

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["Waiting"]

#: seconds between two looks at counters; looking is a read of shared memory
LOOK = 0.01


class Waiting:
    """Mixed into `VM`. While one of these is awaited, the notebook's other tasks go on."""

    async def wait_for(
        self: Any, pattern: str | re.Pattern[str], timeout: float = 5
    ) -> re.Match[str]:
        """`await vm.wait_for("text")`: as `vm.console.expect`, errors included."""
        import asyncio  # here: it would take a quarter of a guest's start-up

        vm: VM = self
        end = time.monotonic() + timeout
        while True:
            try:
                # a bounded part at a time: the console's lock is never held across an await
                return vm.console.expect(pattern, timeout=0)
            except ExpectTimeout:
                if time.monotonic() >= end:
                    vm.console.expect(pattern, timeout=0)
            await asyncio.sleep(LOOK)

    async def until(self: Self, condition: Callable[[Self], Any], timeout: float = 5) -> Any:
        """`await vm.until(lambda v: v.traps["rng0"].reads > 10)`: the first true value of
        `condition(vm)`. ExpectTimeout, with the last value, after `timeout` seconds."""
        import asyncio

        end = time.monotonic() + timeout
        while not (value := condition(self)):
            if time.monotonic() >= end:
                raise ExpectTimeout(f"the condition was still {value!r} after {timeout:g} s")
            await asyncio.sleep(LOOK)
        return value

    def wait_until(self: Self, condition: Callable[[Self], Any], timeout: float = 5) -> Any:
        """The blocking form of `until`."""
        end = time.monotonic() + timeout
        while not (value := condition(self)):
            if time.monotonic() >= end:
                raise ExpectTimeout(f"the condition was still {value!r} after {timeout:g} s")
            time.sleep(LOOK)
        return value
