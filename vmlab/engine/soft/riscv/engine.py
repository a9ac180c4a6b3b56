"""The software engine for RISC-V guests: `SoftEngine` with these harts and chipset."""

from __future__ import annotations

import threading
from typing import Any

from vmlab.arch.riscv64 import REGISTERS
from vmlab.engine.api import EngineConfig, IrqSink
from vmlab.engine.soft import kick
from vmlab.engine.soft.codecache import CodeCaches
from vmlab.engine.soft.engine import Line, SoftEngine
from vmlab.engine.soft.riscv import alias, registers
from vmlab.engine.soft.riscv.chipset import LINES, Chipset
from vmlab.engine.soft.riscv.vcpu import Processor
from vmlab.errors import ConfigError

__all__ = ["RiscvEngine"]


class RiscvEngine(SoftEngine):
    """portable: without Unicorn's inner functions (slower). deterministic: with a look at each block instead
    of a changed hook (much slower; see `kick`).

    Interrupt lines are sources of the PLIC, from 1 on. Raises EngineUnavailable, ConfigError.
    """

    _settable = frozenset(REGISTERS) - {"x0"}
    _counter = "pc"

    def __init__(
        self, config: EngineConfig, portable: bool = False, deterministic: bool = False
    ) -> None:
        self._portable = portable
        registers.check()
        super().__init__(config, deterministic)

    def _assemble(self, config: EngineConfig, deterministic: bool) -> None:
        self._lines = Chipset(config.cpus, self._lock, self._wake)
        bits = 32 if config.arch == "riscv32" else 64
        patch = None if deterministic or self._portable else alias.PATCH[bits]()
        self._caches = CodeCaches(config.memory.regions, patch, self._leave_guest)
        self._processor = Processor(
            config,
            bits,
            self._lines,
            self._doorbells,
            self._exits,
            self._caches,
            not deterministic and kick.self_check(),
            self._portable,
        )
        self._chipset = self._lines
        self._vcpus = self._processor.vcpus

    def irq_sink(self, gsi: int) -> IrqSink:
        if gsi not in LINES:
            raise ConfigError(
                f"there is no interrupt line {gsi}; lines are {LINES[0]} to {LINES[-1]}"
            )
        return Line(gsi, self._lines.set_line, self._lines.pulse_line, again=True)

    def _first_state(self, cpu: int, state: Any) -> Any:
        """In M mode all harts begin at once."""
        return state if not cpu or not state.supervisor else None

    def _wake(self, cpu: int, new: bool) -> None:
        vcpu = self._vcpus[cpu]
        if threading.current_thread() is self._thread:
            self._processor.look_at_lines()
        vcpu.kick()
        if self._lines.pending(cpu):
            self._give_turn(vcpu, new)

    def _time_stops(self) -> None:
        self._lines.stop_time()

    def _time_goes_on(self) -> None:
        self._lines.go_on()
