"""Machines for tests, and devices to plug into them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import ROOT
from vmlab import VM, Device, Registers, on_read, on_write, ro, rw

__all__ = ["FIRST", "PROMPT", "Broken", "Counter", "Dice", "command", "monitor"]
__all__ += ["peeked"]

PROMPT = r"vmlab> $"
#: the window of the first device that a user adds
FIRST = 0xD000_0000
#: seconds that a slow host may take for what takes a tenth of one
PATIENCE = 20.0


class Dice(Device):
    """Rolls 1, 2, 3, ... so that tests know what comes."""

    class regs(Registers):
        ROLL = ro(0x00, "a new roll each read")
        SIDES = rw(0x04, "number of sides", reset=6)

    def __init__(self) -> None:
        self.rolls = 0

    @on_read("ROLL")
    def roll(self) -> int:
        self.rolls += 1
        return (self.rolls - 1) % self.r.SIDES + 1  # type: ignore[no-any-return]


class Broken(Device):
    """Its code has a mistake in it."""

    class regs(Registers):
        VALUE = rw(0x00, "raises when read or written")

    @on_read("VALUE")
    def read_value(self) -> int:
        raise ZeroDivisionError("the author was tired")

    @on_write("VALUE")
    def write_value(self, value: int) -> None:
        raise ZeroDivisionError(f"the author was tired at {value}")


class Counter(Device):
    """Counts what it is told, and interrupts when asked to."""

    class regs(Registers):
        COUNT = rw(0x00, "how many writes there were")
        RAISE = rw(0x04, "1 raises the line, 0 drops it")

    def irq_level(self) -> bool:
        return bool(self.r.RAISE & 1)

    @on_write("COUNT")
    def count(self, value: int) -> None:
        self.r.COUNT = self.r.COUNT + 1 if value else 0


@contextlib.contextmanager
def monitor(engine: str, **options: Any) -> Iterator[VM]:
    """The monitor kernel at its prompt."""
    with VM(kernel="monitor", engine=engine, **options) as vm:
        vm.console.expect(PROMPT, PATIENCE)
        yield vm


def peeked(vm: VM, address: int, width: int = 4) -> int:
    """What the guest reads at `address`."""
    text = vm.console.run(f"peek {address:#x} {width}", timeout=PATIENCE)
    found = re.search(rf"(?m)^{address:#010x}: (0x[0-9a-f]+)$", text)
    assert found, text
    return int(found[1], 16)


def command(*arguments: str | Path, python: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *python, "-m", "vmlab", *map(str, arguments)]


def run(
    *arguments: str | Path, stdin: bytes = b"", timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """`vmlab ARGUMENTS` with what is typed; its status and output."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        cwd=options.pop("cwd", ROOT),
        env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
        timeout=timeout,
        check=False,
        **options,
    )


def after(seconds: float, action: Any, *arguments: Any) -> threading.Timer:
    """Do something a little later, on another thread."""
    timer = threading.Timer(seconds, action, arguments)
    timer.daemon = True
    timer.start()
    return timer
