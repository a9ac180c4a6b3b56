"""`vmlab demo`: a guest at work, with someone at its keyboard."""

from __future__ import annotations

import sys
import threading
import time

from vmlab.cli.live import watch
from vmlab.core.device import Device, on_read
from vmlab.errors import VmlabError
from vmlab.regs import Registers, ro, rw
from vmlab.vm import VM

__all__ = ["Dice", "demo", "play"]


class Dice(Device):
    """A device as a reader would write it: two registers and a roll."""

    class regs(Registers):
        ROLL = ro(0x00, "a new roll at each read")
        SIDES = rw(0x04, "number of sides", reset=6)

    def __init__(self, seed: int = 1) -> None:
        self._state = seed

    @on_read("ROLL")
    def roll(self) -> int:
        # a small generator of its own, so that each demo rolls alike
        self._state = (self._state * 1103515245 + 12345) & 0x7FFF_FFFF
        sides: int = max(self.r.SIDES, 1)
        return (self._state >> 16) % sides + 1


#: what is typed, in turn; the dice are plugged in while the guest runs
_FIRST = ("help peek", "devices", "timer 1000", "irqs", "peek 0xd0000000")
_THEN = (
    "devices",
    "peek 0xd0000000",
    "poke 0xd0000004 20",
    "peek 0xd0000000",
    "timer 20000",
    "irqs",
)


def play(vm: VM, seconds: float, done: threading.Event) -> None:
    """Type the script over and over until the time is up."""
    end = time.monotonic() + seconds
    pause = min(0.5, seconds / 20)
    try:
        vm.console.expect("> $", timeout=20)
        for command in _FIRST:
            _type(vm, command, pause, end)
        vm.hot_add(Dice(), id="dice0")
        while time.monotonic() < end:
            for command in _THEN:
                _type(vm, command, pause, end)
        vm.console.send("exit 0\n")
        vm.wait(2)
    except VmlabError as error:
        print(f"vmlab: {error}", file=sys.stderr)
    finally:
        done.set()
        vm.stop_waiting()


def _type(vm: VM, command: str, pause: float, end: float) -> None:
    if time.monotonic() < end:
        vm.console.send(command + "\n")
        vm.console.expect("> $", timeout=20)
        time.sleep(pause)


def demo(engine: str = "auto", seconds: float = 12.0) -> int:
    """Run it; 0 when it went well."""
    vm = VM(kernel="monitor", engine=engine)
    done = threading.Event()
    try:
        vm.start()
        player = threading.Thread(target=play, args=(vm, seconds, done), daemon=True)
        player.start()
        watch(vm, until=done.is_set)
        crashed = vm.state == "crashed"
    finally:
        vm.stop()
    if crashed:
        print(f"vmlab: {vm.state.reason}", file=sys.stderr)
        return 3
    print(f"\nThat was a machine on {vm.engine}: {vm.engine_reason}. Now try: vmlab run monitor")
    return 0
