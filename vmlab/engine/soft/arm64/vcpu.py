"""The CPUs of an arm64 machine: one Unicorn instance that runs them by turns.

One translation of the guest's code serves all, so that what one CPU writes no other runs as it was. A CPU
that does not run is kept as Unicorn's context.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from typing import Any

from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.core.safely import text_of
from vmlab.engine.api import EngineConfig, Stop, Tally
from vmlab.engine.soft import uclib
from vmlab.engine.soft.access import Access
from vmlab.engine.soft.arm64 import native, psci
from vmlab.engine.soft.arm64 import registers as r
from vmlab.engine.soft.arm64.chipset import Chipset, Key
from vmlab.engine.soft.arm64.core import HVC, SMC, Core
from vmlab.engine.soft.context import Saved
from vmlab.engine.soft.doorbells import Doorbells
from vmlab.engine.soft.exits import HLT
from vmlab.engine.soft.kick import Kick
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.undo import Undo

__all__ = ["Processor", "Vcpu"]

#: EL1 with its own stack pointer; debug exceptions, SError, IRQ and FIQ masked
_START_STATE = 0x3C5
#: VMPIDR_EL2: bit 31 is always one, the affinity is the CPU's number
_MPIDR = 1 << 31
#: UC_PROT_READ
_READABLE = 1
_WFI = bytes.fromhex("7f2003d5")
#: of MPIDR_EL1, as PSCI calls name a CPU
_AFFINITY = 0xFF_00FF_FFFF
#: an interrupt that was refused so often is looked at every so many nanoseconds
_REFUSALS, _LOOK_AGAIN_NS = 32, 1_000_000


class Processor:
    """What the CPUs share: the instance, its callbacks, the kick. Runs on the engine's thread.

    portable: without the library's inner functions, even where they are known.
    """

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
        self.core: Core = kind(uc, config.memory.regions, self, served, constants)
        self._kick = Kick(uc, self._on_block, patched)
        self._pristine = Saved(uc)
        self.vcpus = [Vcpu(n, self) for n in range(config.cpus)]
        #: the CPU whose state Unicorn has
        self._current: Vcpu | None = None
        self._refusals = 0
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

    def arm(self) -> None:
        self._kick.arm(force=True)

    def wrote(self, _address: int, _size: int) -> bool:
        """-> whether the CPU that runs is to leave the guest."""
        self.core.wrote()
        return False

    def forget(self) -> None:
        """Any of the memory may have been written."""
        self._forget = True

    # -- callbacks -------------------------------------------------------------------------------------

    @property
    def current(self) -> Vcpu:
        assert self._current is not None
        return self._current

    def _interrupt_current(self) -> None:
        self.current.interrupt()

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
            self._refused(vcpu)
        # whoever set a flag between the look and the disarming has kicked in vain
        if self._changed(vcpu, line):
            self.arm()

    def _changed(self, vcpu: Vcpu, line: bool) -> bool:
        return vcpu.stop_wanted or self.chipset.line[vcpu.number] != line

    def _refused(self, vcpu: Vcpu) -> None:
        """IRQs are masked: look at the next blocks, and then only now and then."""
        self._refusals += 1
        if self._refusals % _REFUSALS:
            self.arm()
            return
        due = time.monotonic_ns() + _LOOK_AGAIN_NS
        with self.chipset.lock:
            self.chipset.timers.set("look", due, vcpu.kick)

    def _failed(self, error: BaseException) -> None:
        """An exception out of a callback would be lost in C: it is reported when the guest has been left."""
        if self.access.failure is None:
            self.access.failure = error
        self.current.interrupt()

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
        if self._current is not vcpu:
            self.leave()
            vcpu.saved.restore()
            self.uc.flush_tlb()
            self._current = vcpu
            self.access.number = vcpu.number
        self.core.set_clock(self.chipset.clock.offset)

    def leave(self) -> None:
        if self._current is not None:
            self._current.saved.save()
            self._current = None

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

    def disarm(self) -> None:
        self._kick.disarm()

    def close(self) -> None:
        if self.uc.handle:
            self._kick.close()
            for saved in (self._pristine, *(vcpu.saved for vcpu in self.vcpus)):
                saved.close()
            self.core.close()
            self.uc.close()

    def physical(self, address: int) -> int:
        """Where a virtual address lies; all ones where it is not mapped."""
        found = ctypes.c_uint64()
        status = self.uc.lib.uc_vmem_translate(
            self.uc.handle, address, _READABLE, ctypes.byref(found)
        )
        return (1 << 64) - 1 if status else found.value

    def code_at(self, address: int) -> bytes:
        """The instruction at a virtual address; empty where there is none that can be read."""
        at = self.physical(address)
        return self._memory.read(at, 4) if self._memory.find(at, 4) is not None else b""

    def hook_writes(self, callback: Any) -> int:
        return self.uc.hook(uclib.HOOK_MEM_WRITE, uclib.MEM_HOOK(callback), 1, 0)


class Vcpu:
    """One CPU. `kick` and the flags may be touched from any thread."""

    def __init__(self, number: int, processor: Processor) -> None:
        self.number, self._processor = number, processor
        self.saved = Saved(processor.uc)
        self.mode = Mode.WAITING
        #: leave the guest at the next block
        self.stop_wanted = False
        #: PSCI CPU_ON: (entry, context)
        self.startup: tuple[int, int] | None = None
        #: what the guest has asked of the machine
        self._event: str | None = None
        self.pc = 0
        self.inside = False

    # -- from any thread ---------------------------------------------------------------------------

    def kick(self) -> None:
        self._processor.arm()

    def interrupt(self) -> None:
        """Make the CPU leave the guest at its next block."""
        self.stop_wanted = True
        self._processor.arm()

    @property
    def runnable(self) -> bool:
        if self.mode is Mode.HALTED:
            return self._processor.chipset.line[self.number]
        if self.mode is Mode.WAITING:
            return self.startup is not None
        return self.mode is Mode.RUNNING

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
        self.pc = self._processor.core.pc
        if self.mode is Mode.HALTED and "pc" in values:
            self.mode = Mode.RUNNING

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
        if cpu is None:
            return None
        return cpu.mode in (Mode.RUNNING, Mode.HALTED) or cpu.startup is not None

    def turn_on(self, affinity: int, entry: int, context: int) -> None:
        cpu = self._named(affinity)
        if cpu is not None:
            cpu.startup = entry, context
            # the new one has a turn at once: it is waited for
            self.interrupt()

    def turn_off(self) -> None:
        self.mode = Mode.WAITING
        self._processor.core.stop()

    def wait(self) -> None:
        self.mode = Mode.HALTED
        self._processor.core.stop()

    def system(self, event: str) -> None:
        self._event = event
        self._processor.core.stop()

    # -- running -----------------------------------------------------------------------------------

    def run(self, single: bool = False) -> Stop | None:
        """One stay in the guest, until something needs the engine; `single`: one instruction.

        -> why the CPU cannot go on, or None. The mode says whether it is halted.
        """
        processor = self._processor
        processor.disarm()
        if not self._ready() or (self.stop_wanted and not single):
            return None
        processor.enter(self)
        core = processor.core
        core.refresh()
        line = processor.chipset.line[self.number]
        core.set_line(line)
        if line:
            core.enter_interrupt()
        # whoever set a flag before the disarming has kicked in vain
        if self.stop_wanted or processor.chipset.line[self.number]:
            processor.arm()
        waits = single and self._next_is_wfi()
        if single:
            processor.disarm()
            processor.uc.flush_code()  # what is translated does not count instructions
        self.inside = True
        status = core.run(int(single))
        self.inside = False
        return self._after(status, waits if single else None)

    def _ready(self) -> bool:
        if self.mode is Mode.WAITING and self.startup is not None:
            (entry, context), self.startup = self.startup, None
            with self._processor.chipset.lock:
                self._processor.chipset.reset_timers(self.number)
            self._processor.begin(self, entry, {"x0": context})
            self.mode = Mode.RUNNING
        elif self.mode is Mode.HALTED and self._processor.chipset.line[self.number]:
            self.mode = Mode.RUNNING
        return self.mode is Mode.RUNNING

    def _after(self, status: int, waits: bool | None) -> Stop | None:
        """Sort out why the guest was left. `waits`: the one instruction of a step was a WFI."""
        core, access = self._processor.core, self._processor.access
        self.pc = core.pc
        if access.failure is not None:
            failure, access.failure = access.failure, None
            return self._cannot("engine-error", text_of(failure))
        if self._event is not None:
            event, self._event = self._event, None
            return self._cannot(event, f"the guest asked for it: {event} (PSCI)")
        if status != uclib.ERR_OK:
            return self._cannot("internal-error", uclib.describe(status))
        if core.stopped or self.mode is not Mode.RUNNING or waits is False:
            return None
        self._processor.exits[HLT] += 1
        self.mode = Mode.HALTED
        return None

    def _next_is_wfi(self) -> bool:
        """Unicorn does not tell a WFI from the end of a single step."""
        return self._code() == _WFI

    def _code(self) -> bytes:
        """The instruction at PC, if it can be read."""
        return self._processor.code_at(self._processor.core.pc)

    def _cannot(self, kind: str, text: str) -> Stop:
        self.mode = Mode.STOPPED
        code = self._code().hex(" ")
        where = f" at pc={self.pc:#x}" + (f", code {code}" if code else "")
        return Stop(kind, text + where, self.registers())

    def abandon(self, undo: Undo) -> int:
        """As x86's: the access that this CPU waits in is not to be completed."""
        self._processor.access.muted = True

        def on_write(_uc: int, _kind: int, address: int, size: int, _new: int, _data: int) -> None:
            undo.note(self._processor.physical(address), size)

        return self._processor.hook_writes(on_write)

    def abandoned(self, handle: int) -> None:
        self._processor.uc.unhook(handle)
        self._processor.access.muted = False

    def close(self) -> None:
        self._processor.close()
