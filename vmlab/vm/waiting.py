"""Waiting for a machine, blocking and with `await`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from vmlab.errors import ConfigError, ExpectTimeout

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
            began = time.monotonic()
            try:
                # a bounded part at a time: the console's lock is never held across an await
                return vm.console.expect(pattern, timeout=0)
            except ExpectTimeout as error:
                if time.monotonic() >= end:
                    within = f" within {timeout:g} s"
                    error.args = (str(error).replace(" within 0 s", within, 1),)
                    raise
            # a look at megabytes takes long: half of the time at least is the other tasks'
            await asyncio.sleep(max(LOOK, time.monotonic() - began))

    async def until(self: Self, condition: Callable[[Self], Any], timeout: float = 5) -> Any:
        """`await vm.until(lambda v: v.traps["rng0"].reads > 10)`: the first true value of
        `condition(vm)`. ExpectTimeout, with the last value, after `timeout` seconds."""
        import asyncio

        looks = _looks(condition, self, timeout)
        while not looks.met():
            await asyncio.sleep(LOOK)
        return looks.value

    def wait_until(self: Self, condition: Callable[[Self], Any], timeout: float = 5) -> Any:
        """The blocking form of `until`."""
        looks = _looks(condition, self, timeout)
        while not looks.met():
            time.sleep(LOOK)
        return looks.value


def _looks(condition: Callable[[Any], Any], vm: Any, timeout: float) -> _Looks:
    if not callable(condition):
        raise ConfigError(
            f"the condition {condition!r:.60} is a value, looked at once; give a function of the VM that"
            " looks anew: lambda v: ..."
        )
    return _Looks(lambda: condition(vm), timeout, lambda: vm.state.busy)


class _Looks:
    """Looks at a condition, for `timeout` seconds from the first. busy: what keeps the machine, in words."""

    def __init__(
        self, condition: Callable[[], Any], timeout: float, busy: Callable[[], str] = str
    ) -> None:
        self._condition, self._timeout, self._busy = condition, timeout, busy
        self._end = time.monotonic() + timeout
        self.value: Any = None

    def met(self) -> bool:
        self.value = self._condition()
        if self.value:
            return True
        if time.monotonic() >= self._end:
            words = f"the condition was still {self.value!r} after {self._timeout:g} s"
            busy = self._busy()
            raise ExpectTimeout(f"{words}; the machine is {busy}" if busy else words)
        return False
