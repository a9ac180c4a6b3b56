"""The software engine for arm64 guests: `SoftEngine` with this processor and chipset."""

from __future__ import annotations

import threading

from vmlab.engine.api import EngineConfig, IrqSink
from vmlab.engine.soft import kick
from vmlab.engine.soft.arm64 import registers as r
from vmlab.engine.soft.arm64.chipset import LINES, PRIVATE, Chipset
from vmlab.engine.soft.arm64.vcpu import Processor
from vmlab.engine.soft.engine import Line, SoftEngine
from vmlab.errors import ConfigError

__all__ = ["ArmEngine"]

GIC_VERSIONS = (2, 3)


class ArmEngine(SoftEngine):
    """gic: the version of the interrupt controller; None: the config's. portable: without Unicorn's inner
    functions (slower). deterministic: with a look at each block instead of a changed hook (much slower; see
    `kick`).

    Interrupt lines are INTIDs, from 32 on. Raises EngineUnavailable, ConfigError.
    """

    _settable = r.SETTABLE
    _counter = "pc"

    def __init__(
        self,
        config: EngineConfig,
        gic: int | None = None,
        portable: bool = False,
        deterministic: bool = False,
    ) -> None:
        self._portable, self.gic = portable, gic or config.gic or GIC_VERSIONS[0]
        if self.gic not in GIC_VERSIONS:
            raise ConfigError(f"there is no GIC version {self.gic} here; there are 2 and 3")
        super().__init__(config, deterministic)

    def _assemble(self, config: EngineConfig, deterministic: bool) -> None:
        self._gic = Chipset(config.cpus, self.gic, self._lock, self._wake)
        self._processor = Processor(
            config,
            self._gic,
            self._doorbells,
            self._exits,
            not deterministic and kick.self_check(),
            self._portable,
        )
        self._chipset, self._caches = self._gic, self._processor
        self._vcpus = self._processor.vcpus

    def irq_sink(self, gsi: int) -> IrqSink:
        if not PRIVATE <= gsi < LINES:
            raise ConfigError(
                f"there is no interrupt line {gsi}; lines are {PRIVATE} to {LINES - 1}"
            )
        return Line(gsi, self._gic.set_line, self._gic.pulse_line)

    def _wake(self, cpu: int, new: bool) -> None:
        vcpu = self._vcpus[cpu]
        if threading.current_thread() is self._thread:
            self._processor.look_at_line()
        vcpu.kick()
        if self._gic.line[cpu]:
            self._give_turn(vcpu, new)

    def _time_stops(self) -> None:
        self._gic.stop_time()

    def _time_goes_on(self) -> None:
        self._gic.go_on()
