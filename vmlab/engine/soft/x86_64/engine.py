"""The software engine for x86_64 guests: `SoftEngine` with this processor, chipset and code caches."""

from __future__ import annotations

from vmlab.engine.api import EngineConfig, IrqSink
from vmlab.engine.soft import kick
from vmlab.engine.soft.codecache import CodeCaches
from vmlab.engine.soft.engine import Line, SoftEngine
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.x86_64 import alias, lapic
from vmlab.engine.soft.x86_64 import registers as r
from vmlab.engine.soft.x86_64.chipset import GSIS, Chipset
from vmlab.engine.soft.x86_64.lapic import Ipi
from vmlab.engine.soft.x86_64.vcpu import Vcpu
from vmlab.errors import ConfigError

__all__ = ["X86Engine"]


class X86Engine(SoftEngine):
    """Interrupt lines are GSIs, 0 to 23."""

    _caches: CodeCaches

    _settable = frozenset((*r.NAMES, "rip", "rflags"))
    _counter = "rip"

    def _assemble(self, config: EngineConfig, deterministic: bool) -> None:
        self._chips = chips = Chipset(config.cpus, self._lock, self._wake, self._signal)
        self._chipset = chips
        caches = CodeCaches(
            config.memory.regions,
            None if deterministic else alias.patch(),
            self._leave_guest,
        )
        self._caches = caches
        slices = (not deterministic and kick.self_check(), deterministic)
        self._cpus = [
            Vcpu(n, config, chips, self._doorbells, self._exits, caches, slices)
            for n in range(config.cpus)
        ]
        self._vcpus = self._cpus

    def irq_sink(self, gsi: int) -> IrqSink:
        if not 0 <= gsi < GSIS:
            raise ConfigError(f"there is no interrupt line {gsi}; lines are 0 to {GSIS - 1}")
        return Line(gsi, self._chips.set_gsi, self._chips.pulse_gsi)

    def _signal(self, cpu: int, ipi: Ipi) -> None:
        """INIT, start-up or NMI for `cpu` (the lock is held)."""
        vcpu = self._cpus[cpu]
        if ipi.mode == lapic.NMI:
            vcpu.nmi = True
        elif ipi.mode == lapic.INIT:
            self._chips.lapics[cpu].reset()
            vcpu.init = True
            vcpu.startup = None
        elif vcpu.init or vcpu.mode is Mode.WAITING:
            vcpu.startup = ipi.vector
        vcpu.kick()
        self._give_turn(vcpu, True)
