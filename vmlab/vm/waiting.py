"""Waiting for a machine, blocking and with `await`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from vmlab.errors import ConfigError, ExpectTimeout

__all__ = ["TAKING", "Looks", "looks_of", "until", "wait_for", "wait_until"]

Machine = TypeVar("Machine")


class Expects(Protocol):
    """A console, or a screen."""

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 5) -> re.Match[str]: ...


#: seconds that a running Linux has by default to take a device that comes
TAKING = 1.0
#: seconds between two looks at counters; looking is a read of shared memory
LOOK = 0.01


async def wait_for(
    console: Expects, pattern: str | re.Pattern[str], timeout: float
) -> re.Match[str]:
    """As `console.expect`, errors included; the notebook's other tasks go on meanwhile."""
    import asyncio  # here: it would take a quarter of a guest's start-up

    end = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        try:
            # a bounded part at a time: the console's lock is never held across an await
            return console.expect(pattern, timeout=0)
        except ExpectTimeout as error:
            if time.monotonic() >= end:
                within = f" within {timeout:g} s"
                error.args = (str(error).replace(" within 0 s", within, 1),)
                raise
        # a look at megabytes takes long: half of the time at least is the other tasks'
        await asyncio.sleep(max(LOOK, time.monotonic() - began))


async def until(looks: Looks) -> Any:
    """The first true value, awaited."""
    import asyncio

    while not looks.met():
        await asyncio.sleep(LOOK)
    return looks.value


def wait_until(looks: Looks) -> Any:
    """The first true value, blocking."""
    while not looks.met():
        time.sleep(LOOK)
    return looks.value


def looks_of(
    condition: Callable[[Machine], Any], vm: Machine, timeout: float, busy: Callable[[], str]
) -> Looks:
    """busy: what keeps the machine, in words."""
    if not callable(condition):
        raise ConfigError(
            f"the condition {condition!r:.60} is a value, looked at once; give a function of the VM that"
            " looks anew: lambda v: ..."
        )
    return Looks(lambda: condition(vm), timeout, busy)


class Looks:
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
