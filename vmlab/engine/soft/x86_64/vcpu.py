"""One virtual CPU: a Unicorn instance, its start state, its events and its turns at running."""

from __future__ import annotations

import time
from collections.abc import Callable

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.core.safely import text_of
from vmlab.engine.api import EngineConfig, Stop, Tally
from vmlab.engine.soft import uclib
from vmlab.engine.soft.access import Access
from vmlab.engine.soft.codecache import CodeCaches
from vmlab.engine.soft.doorbells import Doorbells
from vmlab.engine.soft.exits import HLT
from vmlab.engine.soft.kick import Kick
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.points import Points
from vmlab.engine.soft.uclib import Uc
from vmlab.engine.soft.undo import Undo
from vmlab.engine.soft.x86_64 import cpuid, entry, syscalls
from vmlab.engine.soft.x86_64 import registers as r
from vmlab.engine.soft.x86_64.chipset import Chipset
from vmlab.engine.soft.x86_64.delivery import WITH_ERROR, Event, deliver
from vmlab.engine.soft.x86_64.physical import Fault, Paging, Physical
from vmlab.engine.soft.x86_64.registers import Context

__all__ = ["Vcpu"]

_UD, _DB, _NMI_VECTOR = 6, 1, 2
#: hflags2: NMIs are blocked until IRET (QEMU's HF2_NMI_MASK; its IRET clears it)
_H2_NMI = 1 << 2
#: blocks between looks at the interrupt line in deterministic mode
_SLICE_BLOCKS = 1000
#: an event that was refused so often is looked at every so many nanoseconds
_REFUSALS, _LOOK_AGAIN_NS = 32, 1_000_000
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3"
_REX = bytes(range(0x40, 0x50))


class Vcpu:
    """Runs on the engine's thread; `kick` and the flags may be touched from any."""

    def __init__(
        self,
        number: int,
        config: EngineConfig,
        chipset: Chipset,
        doorbells: Doorbells,
        exits: Tally,
        caches: CodeCaches,
        slices: tuple[bool, bool],
    ) -> None:
        patched, self._deterministic = slices
        self.number = number
        self.mode = Mode.WAITING
        self._chipset, self._exits = chipset, exits
        self._memory = Physical(config.memory.regions)
        self._uc = uc = Uc()
        self.context = Context(uc)
        ram = sorted((region.base, region.end) for region in config.memory.regions)
        for region in config.memory.regions:
            uc.map_ram(region.base, region.size, region.host_address)
        self._caches = caches
        caches.join(uc)
        self.access = Access(number, config, chipset, doorbells, exits, self.interrupt)
        self.access.attach(uc, ram)
        self._exception: int | None = None
        self._syscall = 0
        uc.hook(uclib.HOOK_INTR, uclib.INTR_HOOK(self._on_exception), 1, 0)
        for insn in (uclib.INSN_SYSCALL, uclib.INSN_SYSENTER):
            uc.hook(uclib.HOOK_INSN, uclib.INSN_HOOK(self._on_syscall(insn)), 1, 0, insn)
        on_cpuid = uclib.INSN_HOOK(cpuid.hook(uc, number))
        uc.hook(uclib.HOOK_INSN, on_cpuid, 1, 0, uclib.INSN_CPUID)
        self._kick = Kick(
            uc, self._on_block, patched, caches.flags(self.context) if patched else None
        )
        self._refusals = 0
        #: leave the guest at the next block, whatever its interrupt flag
        self.stop_wanted = False
        self._hit = False
        #: the block before began in the interrupt shadow, which covers one instruction only
        self._shadowed = False
        self._blocks = 0
        self.nmi = self.init = False
        self.startup: int | None = None
        self.rip = 0
        self._interruptible = False
        self.inside = False
        #: made when first wanted
        self.points: Points | None = None

    @property
    def pc(self) -> int:
        return self.rip

    # -- from any thread ---------------------------------------------------------------------------

    def kick(self) -> None:
        self._kick.arm(self.init or self.nmi)

    def interrupt(self) -> None:
        """Make the CPU leave the guest at its next block."""
        self.stop_wanted = True
        self._kick.arm(force=True)

    @property
    def runnable(self) -> bool:
        if self.init and self.mode is not Mode.STOPPED:
            return True
        if self.mode is Mode.HALTED:
            return self.nmi or (self._interruptible and self._chipset.line[self.number])
        if self.mode is Mode.WAITING:
            return self.startup is not None
        return self.mode is Mode.RUNNING

    # -- callbacks out of Unicorn ------------------------------------------------------------------

    def _on_block(self) -> None:
        """At a block start while armed: stop if there is a reason to, and if it is legal now."""
        if self.stop_wanted or self.init:
            self._stop()
        elif self.nmi or self._chipset.line[self.number]:
            if self._deterministic:
                self._blocks -= 1
                if self._blocks > 0:
                    return
                self._blocks = _SLICE_BLOCKS
            self.context.load()
            if self._accepts() or self._shadow_is_over():
                self._stop()
            elif not self._shadowed:
                self._refused()
        else:
            self._kick.disarm()
            self._shadowed = False
            # whoever set a flag between the look and the disarming has kicked in vain
            if self._wanted():
                self._rearm()

    def _shadow_is_over(self) -> bool:
        """Unicorn keeps it for all of a REP: the second block in a row in it is the second iteration."""
        before, self._shadowed = self._shadowed, bool(self.context.hflags & r.H_SHADOW)
        self._blocks = int(self._shadowed) or self._blocks  # look at the next block as well
        return before and self._shadowed

    def _refused(self) -> None:
        """IF = 0, or an NMI inside another's handler: not to be looked at on every block from now on."""
        self._refusals += 1
        if self._refusals < _REFUSALS:
            return
        self._refusals = 0
        self._kick.disarm()
        with self._chipset.lock:
            due = time.monotonic_ns() + _LOOK_AGAIN_NS
            self._chipset.timers.set(("look", self.number), due, self.kick)
        if self.stop_wanted or self.init:
            self._rearm()

    def _rearm(self) -> None:
        self._kick.arm(self.stop_wanted or self.init or self.nmi)

    def _wanted(self) -> bool:
        return self.stop_wanted or self.init or self.nmi or self._chipset.line[self.number]

    def _stop(self) -> None:
        self._hit = True
        self._uc.lib.uc_emu_stop(self._uc.handle)

    def _accepts(self) -> bool:
        """May an event be delivered before the next instruction? The context is loaded."""
        context = self.context
        if context.hflags & r.H_SHADOW:
            return False
        if self.nmi and not context.hflags2 & _H2_NMI:
            return True
        return bool(context.stored_flags & r.IF) and self._chipset.line[self.number]

    def _on_exception(self, _uc: int, number: int, _data: int) -> None:
        self._exception = number
        self._uc.lib.uc_emu_stop(self._uc.handle)

    def _on_syscall(self, insn: int) -> Callable[[int, int], int]:
        def callback(_uc: int, _data: int) -> int:
            self._syscall = insn
            self._uc.lib.uc_emu_stop(self._uc.handle)
            return 0

        return callback

    # -- state -------------------------------------------------------------------------------------

    def load(self, state: CpuState | None) -> None:
        """Put the CPU in its start state; None: wait for INIT/SIPI."""
        self.nmi = self.init = self._hit = False
        self.startup = self._exception = None
        self._syscall = 0
        self.access.failure = None
        self.mode = Mode.WAITING if state is None else Mode.RUNNING
        if state is None:
            entry.set_startup_ipi(self.context, 0)
        else:
            entry.set_start(self.context, state)
        self._apply_fresh()

    def _apply_fresh(self) -> None:
        """Put a start state into the CPU. Code may have been written by the host, or by another
        vCPU whose stores this instance does not see: forget all translations."""
        self.context.store()
        self.rip = self.context.rip
        self._uc.flush_tlb()
        self._uc.flush_code()

    def _start_up(self) -> bool:
        """INIT and start-up IPIs -> whether the CPU can run now."""
        if self.init:
            startup = self.startup  # one that came after the INIT, before this CPU's turn
            self.load(None if self.number else CpuState("real", 0xFFFF_FFF0))
            self.startup = startup
        if self.mode is Mode.WAITING and self.startup is not None:
            vector, self.startup = self.startup, None
            entry.set_startup_ipi(self.context, vector)
            self._apply_fresh()
            self.mode = Mode.RUNNING
        return self.mode in (Mode.RUNNING, Mode.HALTED)

    def registers(self) -> dict[str, int]:
        self.context.load()
        flags = r.read_flags(self._uc)
        context = self.context
        values = dict(zip(r.NAMES, context.q[:16].tolist(), strict=True))
        values["rip"] = context.rip if self.inside else self.rip
        values["rflags"] = flags
        for number, name in enumerate(r.SEGMENTS):
            values[name] = context.selector(number)
        for number in (0, 2, 3, 4):
            values[f"cr{number}"] = context.cr(number)
        values["efer"] = context.efer
        return values

    def set_registers(self, values: dict[str, int]) -> None:
        """General registers, rip, rflags; the names are checked by the caller."""
        self.context.load()
        flags = values.get("rflags", r.read_flags(self._uc))
        for name, value in values.items():
            if name in r.NAMES:
                self.context.q[r.NAMES.index(name)] = value & r.MASK64
        self.rip = self.context.rip = values.get("rip", self.rip) & r.MASK64
        self.context.set_flags(flags)
        self.context.store()
        if self.mode is Mode.HALTED and "rip" in values:
            self.mode = Mode.RUNNING

    # -- running -----------------------------------------------------------------------------------

    def run(self, single: bool = False) -> Stop | None:
        """One stay in the guest, until something needs the engine; `single`: one instruction.

        -> why the CPU cannot go on, or None. The mode says whether it is halted.
        """
        if self.mode is Mode.STOPPED:
            return None
        self._kick.disarm()
        self._hit = False
        if (self.init or self.mode is Mode.WAITING) and not self._start_up():
            return None
        if self.stop_wanted and not single:
            return None
        self._caches.begin()
        stop = self._deliver_pending()
        if stop or self.mode is not Mode.RUNNING:
            return stop
        self._kick.relax()
        if self._wanted():
            self._rearm()
        self._shadowed = False
        if self.points is not None:
            self.points.enter(single)
        halts = single and self._next_is_hlt()
        self.inside = True
        if single:
            self._kick.disarm()
            self._shadowed = bool(self.context.hflags & r.H_SHADOW)
            self._uc.flush_code()  # what is translated does not count instructions
        status = self._uc.run(self.rip, int(single))
        self.inside = False
        self._caches.settle(self._uc)
        return self._after(status, halts if single else None)

    def _after(self, status: int, halts: bool | None) -> Stop | None:
        """Sort out why the guest was left. `halts`: known beforehand (single step)."""
        context = self.context
        context.load()
        self.rip = context.rip
        if self._shadowed and self._hit is (halts is None):  # a step is over unless it was stopped
            context.hflags &= ~r.H_SHADOW
            context.store()
        if self.access.failure is not None:
            failure, self.access.failure = self.access.failure, None
            return self._cannot("engine-error", text_of(failure))
        if self._exception is not None:
            number, self._exception = self._exception, None
            return self._raised(number)
        if self._syscall:
            insn, self._syscall = self._syscall, 0
            flags = r.read_flags(self._uc)
            event = syscalls.enter(context, flags, insn == uclib.INSN_SYSENTER)
            if event is not None:
                return self._deliver(event)
            self._entered()
            return None
        if status == uclib.ERR_INSN_INVALID:
            return self._undefined()
        if status != uclib.ERR_OK:
            return self._cannot("internal-error", uclib.describe(status))
        if self._hit or halts is False:
            return None
        self._exits[HLT] += 1
        self.mode = Mode.HALTED
        self._interruptible = bool(context.stored_flags & r.IF)
        return None

    def _raised(self, number: int) -> Stop | None:
        """Unicorn reports exception `number`; INT n is one too."""
        context = self.context
        if number > 255:
            return self._cannot("internal-error", f"exception {number:#x} inside the emulator")
        if context.by_instruction:
            return self._deliver(Event(number, kind="software", length=self._int_length(number)))
        if number == _UD:
            return self._undefined()
        protected = context.cr(0) & 1
        error = context.error & 0xFFFF_FFFF if number in WITH_ERROR and protected else None
        return self._deliver(Event(number, error))

    def _undefined(self) -> Stop | None:
        """An instruction that Unicorn does not know. INT1 is one, a trap whose gate may have any DPL; INT 6
        is reported as one."""
        code = self._code_bytes(2, self.rip)
        if code[:1] == b"\xf1":
            self.context.rip += 1
            return self._deliver(Event(_DB))
        if code == bytes((0xCD, _UD)):
            self.context.rip += 2
            return self._deliver(Event(_UD, kind="software", length=2))
        return self._deliver(Event(_UD))

    def _deliver_pending(self) -> Stop | None:
        """Deliver an NMI or interrupt that is due."""
        if not (self.nmi or self._chipset.line[self.number]):
            return None
        context = self.context
        context.load()
        if not self._accepts():
            return None
        if self.nmi and not context.hflags2 & _H2_NMI:
            self.nmi = False
            context.hflags2 |= _H2_NMI
            event = Event(_NMI_VECTOR, kind="external")
        else:
            vector = self._chipset.acknowledge(self.number)
            if vector is None:
                return None
            event = Event(vector, kind="external")
        self.mode = Mode.RUNNING
        context.rip = self.rip
        return self._deliver(event)

    def _deliver(self, event: Event) -> Stop | None:
        if deliver(self.context, r.read_flags(self._uc), self._memory, event):
            self._entered()
            return None
        self.context.store()  # CR2 at least
        return self._cannot("shutdown", f"triple fault (vector {event.vector})")

    def _entered(self) -> None:
        self.context.store()
        self.rip = self.context.rip

    def _paging(self) -> Paging:
        context = self.context
        return Paging(self._memory, context.cr(0), context.cr(3), context.cr(4), context.efer)

    def _code_bytes(self, size: int, rip: int) -> bytes:
        """What lies at CS:`rip`, as far as it can be read. The context is loaded."""
        address = (self.context.segment(r.CS).base + rip) & r.MASK64
        paging, found = self._paging(), b""
        for at in range(size):
            try:
                found += paging.read(address + at & r.MASK64, 1)
            except Fault:
                break
        return found

    def _int_length(self, vector: int) -> int:
        """Of the INT3, INTO or INT n that RIP is behind; any prefixes are not counted."""
        last = self._code_bytes(1, self.rip - 1)
        return 1 if (vector, last) in ((3, b"\xcc"), (4, b"\xce")) else 2

    def _next_is_hlt(self) -> bool:
        """Unicorn does not tell a HLT from the end of a single step."""
        self.context.load()
        code = self._code_bytes(15, self.rip).lstrip(_PREFIXES)
        if self.context.hflags & r.H_CS64 and code[:1] in _REX:
            code = code[1:]
        return code[:1] == b"\xf4" and self.context.cpl == 0

    def _cannot(self, kind: str, text: str) -> Stop:
        self.mode = Mode.STOPPED
        code = self._code_bytes(8, self.rip).hex(" ")
        where = f" at rip={self.rip:#x}" + (f", code {code}" if code else "")
        return Stop(kind, text + where, self.registers())

    def abandon(self, undo: Undo) -> int:
        """The access that this CPU waits in is not to be completed: see SoftEngine.load.

        -> a handle for `abandoned`, to be called when the CPU has left the guest.
        """
        self.access.muted = True

        def on_write(_uc: int, _kind: int, address: int, size: int, _new: int, _data: int) -> None:
            undo.note(address, size)

        # data accesses look their hooks up each time, so this one works inside the block, too
        return self._uc.hook(uclib.HOOK_MEM_WRITE, uclib.MEM_HOOK(on_write), 1, 0)

    def abandoned(self, handle: int) -> None:
        self._uc.unhook(handle)
        self.access.muted = False

    def translate(self, address: int) -> int | None:
        """Where a linear address lies; None: nowhere."""
        self.context.load()
        try:
            return self._paging().translate(address, False)
        except Fault:
            return None

    def make_points(self) -> Points:
        if self.points is None:
            self.points = Points(self._uc, lambda: self.number, self._stop, self.translate)
        return self.points

    def close(self) -> None:
        self._kick.close()
        self.context.close()
        self._caches.leave(self._uc)
        self._uc.close()
