"""The CPUs of an arm64 machine, by turns (see `turns`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.engine.api import EngineConfig, Tally
from vmlab.engine.soft.access import Access
from vmlab.engine.soft.arm64 import native, psci
from vmlab.engine.soft.arm64 import registers as r
from vmlab.engine.soft.arm64.chipset import Chipset, Key
from vmlab.engine.soft.arm64.core import HVC, SMC, Core
from vmlab.engine.soft.doorbells import Doorbells
from vmlab.engine.soft.kick import Kick
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.turns import TurnCpu, Turns

__all__ = ["Processor", "Vcpu"]

#: EL1 with its own stack pointer; debug exceptions, SError, IRQ and FIQ masked
_START_STATE = 0x3C5
#: VMPIDR_EL2: bit 31 is always one, the affinity is the CPU's number
_MPIDR = 1 << 31
_WFI = bytes.fromhex("7f2003d5")
#: of MPIDR_EL1, as PSCI calls name a CPU
_AFFINITY = 0xFF_00FF_FFFF


class Processor(Turns["Vcpu"]):
    """portable: without the library's inner functions, even where they are known."""

    chipset: Chipset
    core: Core

    def __init__(
        self,
        config: EngineConfig,
        chipset: Chipset,
        doorbells: Doorbells,
        exits: Tally,
        patched: bool,
        portable: bool,
    ) -> None:
        self.chipset, self.exits = chipset, exits
        self._memory = config.memory
        self.uc = uc = r.new_cpu()
        ram = sorted((region.base, region.end) for region in config.memory.regions)
        for region in config.memory.regions:
            uc.map_ram(region.base, region.size, region.host_address)
        self.access = Access(0, config, chipset, doorbells, exits, self._interrupt_current)
        self.access.attach(uc, ram)
        kind = native.NativeCore if not portable and native.usable() else Core
        served, constants = chipset.system_registers, self._identification()
        self.core = kind(uc, config.memory.regions, self, served, constants)
        self._begin_turns(Kick(uc, self._on_block, patched))
        self.vcpus = [Vcpu(n, self) for n in range(config.cpus)]
        self._forget = False

    def _identification(self) -> dict[Key, int]:
        values: dict[Key, int] = {}
        fields = [*r.IDENTIFICATION]
        if self.chipset.version == 3:
            fields.append((*r.GIC_FIELD, 1))
        for key, low, field in fields:
            before = values.get(key, r.read_system(self.uc, key))
            values[key] = before & ~(15 << low) | field << low
        return values

    # -- any thread ------------------------------------------------------------------------------------

    def wrote(self, _address: int, _size: int) -> bool:
        """-> whether the CPU that runs is to leave the guest."""
        self.core.wrote()
        return False

    def forget(self) -> None:
        """Any of the memory may have been written."""
        self._forget = True

    # -- callbacks -------------------------------------------------------------------------------------

    def leave_soon(self) -> None:
        self.current.interrupt()

    def _on_block(self) -> None:
        """At a block's start while armed."""
        vcpu = self.current
        if vcpu.stop_wanted:
            self.core.stop()
            return
        self._kick.disarm()
        line = self.chipset.line[vcpu.number]
        self.core.set_line(line)
        if line and not self.core.leave_for_interrupt():
            self._look_again(vcpu)
        # whoever set a flag between the look and the disarming has kicked in vain
        if self._changed(vcpu, line):
            self.arm()

    def _changed(self, vcpu: Vcpu, line: bool) -> bool:
        return vcpu.stop_wanted or self.chipset.line[vcpu.number] != line

    def on_exception(self, number: int) -> bool:
        if number not in (HVC, SMC):
            return False
        try:
            self.current.firmware_call(number == HVC)
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)
        return True

    def read_system(self, key: Key) -> int:
        try:
            return self.chipset.read_system(self.current.number, key)
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)
            return 0

    def write_system(self, key: Key, value: int) -> None:
        try:
            self.chipset.write_system(self.current.number, key, value)
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)

    def look_at_line(self) -> None:
        """It has changed, by something that the CPU that runs does."""
        if self._current is not None:
            self.core.set_line(self.chipset.line[self._current.number])

    # -- turns -----------------------------------------------------------------------------------------

    def enter(self, vcpu: Vcpu) -> None:
        """Let Unicorn have the CPU's state."""
        if self._forget:
            self._forget = False
            self.core.forget()
        self._change_to(vcpu)
        self.core.set_clock(self.chipset.clock.offset)

    @contextlib.contextmanager
    def showing(self, vcpu: Vcpu) -> Iterator[None]:
        """Unicorn has the CPU's state, to be read: another one may wait inside an access."""
        current = self._current
        if current is vcpu:
            yield
            return
        if current is not None:
            current.saved.save()
        vcpu.saved.restore()
        try:
            yield
        finally:
            if current is not None:
                current.saved.restore()

    def begin(self, vcpu: Vcpu, entry: int, values: dict[str, int]) -> None:
        """Put the CPU in its start state, with these registers."""
        self.leave()
        self._pristine.restore()
        r.write_system(self.uc, r.VMPIDR_EL2, _MPIDR | vcpu.number)
        self.uc.write_register(r.PSTATE, _START_STATE)
        for name, value in {**values, "pc": entry}.items():
            r.write(self.uc, name, value)
        # after PSTATE: makes Unicorn look at the new state
        r.write_system(self.uc, r.SCTLR_EL1, r.read_system(self.uc, r.SCTLR_EL1))
        vcpu.saved.save()
        vcpu.pc = entry

    def code_at(self, address: int) -> bytes:
        """The instruction at a virtual address; empty where there is none that can be read."""
        at = self.physical(address)
        return self._memory.read(at, 4) if self._memory.find(at, 4) is not None else b""


class Vcpu(TurnCpu):
    _firmware = "PSCI"
    _processor: Processor

    def __init__(self, number: int, processor: Processor) -> None:
        super().__init__(number, processor.uc)
        self._processor = processor

    def _is_woken(self) -> bool:
        return self._processor.chipset.line[self.number]

    def _halt(self) -> None:
        self.mode = Mode.HALTED

    def _code(self) -> str:
        return self._processor.code_at(self.pc).hex(" ")

    # -- state ---------------------------------------------------------------------------------------

    def load(self, state: CpuState | None) -> None:
        """Put the CPU in its start state; None: wait to be turned on."""
        self.startup = self._event = None
        self._processor.access.failure = None
        self.mode = Mode.WAITING if state is None else Mode.RUNNING
        entry, values = (0, {}) if state is None else (state.pc, dict(state.regs))
        self._processor.begin(self, entry, values)
        self._processor.forget()

    def registers(self) -> dict[str, int]:
        with self._processor.showing(self):
            return {name: r.read(self._processor.uc, name) for name in r.NAMES}

    def set_registers(self, values: dict[str, int]) -> None:
        """Those of `registers.SETTABLE`; the names are checked by the caller."""
        self._processor.enter(self)
        uc = self._processor.uc
        for name, value in values.items():
            r.write(uc, name, value)
        r.write_system(uc, r.SCTLR_EL1, r.read_system(uc, r.SCTLR_EL1))
        self._moved(values)

    # -- what the guest asks by HVC --------------------------------------------------------------------

    def firmware_call(self, known: bool) -> None:
        """PSCI; `known` False: by SMC, which this machine has not."""
        uc = self._processor.uc
        number, *arguments = (uc.read_register(r.GENERAL[n]) for n in range(4))
        result = psci.NOT_SUPPORTED
        if known:
            one, two, three = arguments
            result = psci.call(self, number & 0xFFFF_FFFF, (one, two, three))
        uc.write_register(r.GENERAL[0], result & (1 << 64) - 1)

    def _named(self, affinity: int) -> Vcpu | None:
        number, cpus = affinity & _AFFINITY, self._processor.vcpus
        return cpus[number] if number < len(cpus) else None

    def is_on(self, affinity: int) -> bool | None:
        cpu = self._named(affinity)
        return None if cpu is None else cpu.is_up

    def turn_on(self, affinity: int, entry: int, context: int) -> None:
        cpu = self._named(affinity)
        if cpu is not None:
            self.start_up(cpu, entry, context)

    def wait(self) -> None:
        self.mode = Mode.HALTED
        self._processor.core.stop()

    # -- running -----------------------------------------------------------------------------------

    def _see_lines(self) -> bool:
        core, chipset = self._processor.core, self._processor.chipset
        core.refresh()
        line = chipset.line[self.number]
        core.set_line(line)
        if line:
            core.enter_interrupt()
        return chipset.line[self.number]

    def _is_wfi(self) -> bool:
        return self._processor.code_at(self._processor.core.pc) == _WFI

    def _ready(self) -> bool:
        if self.mode is Mode.WAITING and self.startup is not None:
            (entry, context), self.startup = self.startup, None
            with self._processor.chipset.lock:
                self._processor.chipset.reset_timers(self.number)
            self._processor.begin(self, entry, {"x0": context})
            self.mode = Mode.RUNNING
        elif self.mode is Mode.HALTED and self._is_woken():
            self.mode = Mode.RUNNING
        return self.mode is Mode.RUNNING
