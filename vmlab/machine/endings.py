"""What a guest ends its machine by, or begins it anew: ports, buttons, faults of a CPU."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.patience import Patient
from vmlab.engine.api import Stop
from vmlab.machine.board import FixedHooks
from vmlab.machine.config import Exit, StateName
from vmlab.machine.requests import GuestRequests

__all__ = ["Endings"]


class Endings:
    """Each becomes a request. end, reset: what the machine does then; quiet: held by who resets devices."""

    def __init__(
        self,
        requests: GuestRequests,
        end: Callable[[StateName, Exit], None],
        reset: Callable[[], None],
        quiet: Patient,
    ) -> None:
        self._requests, self._end, self._reset, self._quiet = requests, end, reset, quiet

    def hooks(
        self, console: Callable[[bytes], None], debug_exit: bool, screen: memoryview | None
    ) -> FixedHooks:
        """For the board's devices."""
        ends = self.debug_exit if debug_exit else None
        return FixedHooks(console, self.reset, self.power_off, ends, self.fail, screen)

    def _ask(self, state: StateName, reason: str, code: int, text: str) -> None:
        ended = Exit(reason, code, text)
        self._requests.ask(lambda: self._end(state, ended))

    def debug_exit(self, value: int) -> None:
        status = (value << 1 | 1) & 0xFFFF_FFFF
        self._ask("stopped", "debug-exit", status, f"the guest exited with status {status}")

    def fail(self, status: int) -> None:
        self._ask("stopped", "fail", status, f"the guest failed with status {status}")

    def power_off(self) -> None:
        self._ask("stopped", "poweroff", 0, "the guest switched itself off")

    def reset(self) -> None:
        self._requests.ask(self._reset, under=self._quiet)

    def stop(self, cpu: int, stop: Stop) -> None:
        """The engine cannot run that CPU any further, or its firmware was called to the same end."""
        if stop.kind == "power-off":
            self.power_off()
        elif stop.kind == "reset":
            self.reset()
        else:
            reason = "triple-fault" if stop.kind == "shutdown" else stop.kind
            self._ask("crashed", reason, 3, f"cpu {cpu}: {stop.text}")
