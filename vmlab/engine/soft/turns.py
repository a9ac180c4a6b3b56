"""CPUs that run by turns on one Unicorn instance: what is the same whatever they are.

One translation of the guest's code serves all, so that what one CPU writes no other runs as it was. A CPU
that does not run is kept as Unicorn's context.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from vmlab.core.safely import text_of
from vmlab.engine.api import Stop, Tally
from vmlab.engine.soft import uclib
from vmlab.engine.soft.access import Access
from vmlab.engine.soft.context import Saved
from vmlab.engine.soft.exits import HLT
from vmlab.engine.soft.kick import Kick
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.points import Points
from vmlab.engine.soft.timers import Timers
from vmlab.engine.soft.uclib import Uc
from vmlab.engine.soft.undo import Undo

__all__ = ["TurnCpu", "Turns"]

#: UC_PROT_READ
_READABLE = 1
#: an interrupt that was refused so often is looked at every so many nanoseconds
_REFUSALS, _LOOK_AGAIN_NS = 32, 1_000_000


class _Core(Protocol):
    """The CPU's registers, traps and interrupts on the instance."""

    #: this stay in the guest ends because somebody wanted it
    stopped: bool

    @property
    def pc(self) -> int: ...
    def stop(self) -> None: ...
    def run(self, count: int) -> int: ...
    def close(self) -> None: ...


class _Chips(Protocol):
    @property
    def lock(self) -> Any: ...
    @property
    def timers(self) -> Timers: ...


Cpu = TypeVar("Cpu", bound="TurnCpu")


class Turns(Generic[Cpu]):
    """What the CPUs share: the instance, its callbacks, the kick. Runs on the engine's thread. A subclass
    makes what is named here, and calls `_begin_turns`."""

    uc: Uc
    #: of an address
    bits = 64
    core: _Core
    chipset: _Chips
    access: Access
    exits: Tally
    vcpus: list[Cpu]
    _kick: Kick
    _pristine: Saved

    def _begin_turns(self, kick: Kick) -> None:
        self._kick = kick
        self._pristine = Saved(self.uc)
        #: the CPU whose state Unicorn has
        self._current: Cpu | None = None
        self._refusals = 0
        #: made when first wanted
        self.points: Points | None = None

    # -- any thread ------------------------------------------------------------------------------------

    def arm(self) -> None:
        self._kick.arm(force=True)

    # -- callbacks -------------------------------------------------------------------------------------

    @property
    def current(self) -> Cpu:
        assert self._current is not None
        return self._current

    def _interrupt_current(self) -> None:
        self.current.interrupt()

    def _look_again(self, vcpu: Cpu) -> None:
        """It takes no interrupt now: look at the next blocks, and then only now and then."""
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

    # -- turns -----------------------------------------------------------------------------------------

    def enter(self, vcpu: Cpu) -> None:
        """Let Unicorn have the CPU's state, of which nothing is stale."""
        raise NotImplementedError

    def _change_to(self, vcpu: Cpu) -> None:
        """Let Unicorn have the CPU's state."""
        if self._current is not vcpu:
            self.leave()
            vcpu.saved.restore()
            self.uc.flush_tlb()
            self._current = vcpu
            self.access.number = vcpu.number

    def show(self, vcpu: Cpu) -> None:
        """As `enter`, to be looked at."""
        self._change_to(vcpu)

    def leave(self) -> None:
        if self._current is not None:
            self._current.saved.save()
            self._current = None

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

    def translate(self, address: int) -> int | None:
        """As `physical`; None: nowhere."""
        found = self.physical(address)
        return None if found == (1 << 64) - 1 else found

    def make_points(self) -> Points:
        if self.points is None:
            self.points = Points(
                self.uc, lambda: self.access.number, self.core.stop, self.translate, self.bits
            )
        return self.points

    def hook_writes(self, callback: Any) -> int:
        return self.uc.hook(uclib.HOOK_MEM_WRITE, uclib.MEM_HOOK(callback), 1, 0)


class TurnCpu:
    """One CPU. `kick` and the flags may be touched from any thread."""

    #: what it asks its machine by
    _firmware: ClassVar[str]
    _processor: Turns[Any]

    def __init__(self, number: int, uc: Uc) -> None:
        self.number = number
        self.saved = Saved(uc)
        self.mode = Mode.WAITING
        #: leave the guest at the next block
        self.stop_wanted = False
        #: started by another CPU: (entry, what it is handed)
        self.startup: tuple[int, int] | None = None
        #: what the guest has asked of the machine
        self._event: str | None = None
        self.pc = 0
        self.inside = False

    @property
    def access(self) -> Access:
        access: Access = self._processor.access
        return access

    # -- what differs ------------------------------------------------------------------------------------

    def registers(self) -> dict[str, int]:
        raise NotImplementedError

    def _ready(self) -> bool:
        """Whether it runs, started or woken now."""
        raise NotImplementedError

    def _see_lines(self) -> bool:
        """The CPU has Unicorn: show it its interrupt lines -> whether one is up."""
        raise NotImplementedError

    def _is_wfi(self) -> bool:
        """Whether the next instruction is one."""
        raise NotImplementedError

    def _is_woken(self) -> bool:
        """Whether it goes on, though it is halted."""
        raise NotImplementedError

    def _halt(self) -> None:
        """It has waited for an interrupt."""
        raise NotImplementedError

    def _code(self) -> str:
        """The instruction at `pc` in hex; "": it cannot be read."""
        raise NotImplementedError

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
            return self._is_woken()
        if self.mode is Mode.WAITING:
            return self.startup is not None
        return self.mode is Mode.RUNNING

    # -- what the guest asks of its firmware ---------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        return self.mode in (Mode.RUNNING, Mode.HALTED) or self.startup is not None

    def start_up(self, other: TurnCpu, entry: int, handed: int) -> None:
        other.startup = entry, handed
        # the new one has a turn at once: it is waited for
        self.interrupt()

    def turn_off(self) -> None:
        self.mode = Mode.WAITING
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
        lines = self._see_lines()
        # whoever set a flag before the disarming has kicked in vain
        if self.stop_wanted or lines:
            processor.arm()
        # Unicorn does not tell a WFI from the end of a single step
        waits = self._is_wfi() if single else None
        if single:
            processor.disarm()
            processor.uc.flush_code()  # what is translated does not count instructions
        if processor.points is not None:
            processor.points.enter(single)
        self.inside = True
        status = processor.core.run(int(single))
        self.inside = False
        return self._after(status, waits)

    def _after(self, status: int, waits: bool | None) -> Stop | None:
        """Sort out why the guest was left. `waits`: the one instruction of a step was a WFI."""
        core, access = self._processor.core, self._processor.access
        self.pc = core.pc
        if access.failure is not None:
            failure, access.failure = access.failure, None
            return self._cannot("engine-error", text_of(failure))
        if self._event is not None:
            event, self._event = self._event, None
            return self._cannot(event, f"the guest asked for it: {event} ({self._firmware})")
        if status != uclib.ERR_OK:
            return self._cannot("internal-error", uclib.describe(status))
        if core.stopped or self.mode is not Mode.RUNNING or waits is False:
            return None
        self._processor.exits[HLT] += 1
        self._halt()
        return None

    def _cannot(self, kind: str, text: str) -> Stop:
        self.mode = Mode.STOPPED
        code = self._code()
        where = f" at pc={self.pc:#x}" + (f", code {code}" if code else "")
        return Stop(kind, text + where, self.registers())

    def _moved(self, values: dict[str, int]) -> None:
        """Registers were set from outside."""
        self.pc = self._processor.core.pc
        if self.mode is Mode.HALTED and "pc" in values:
            self.mode = Mode.RUNNING

    def abandon(self, undo: Undo) -> int:
        """As x86's: the access that this CPU waits in is not to be completed."""
        self._processor.access.muted = True

        def on_write(_uc: int, _kind: int, address: int, size: int, _new: int, _data: int) -> None:
            undo.note(self._processor.physical(address), size)

        return self._processor.hook_writes(on_write)

    def abandoned(self, handle: int) -> None:
        self._processor.uc.unhook(handle)
        self._processor.access.muted = False

    @property
    def points(self) -> Points | None:
        return self._processor.points

    def make_points(self) -> Points:
        return self._processor.make_points()

    def translate(self, address: int) -> int | None:
        """Where a virtual address lies; None: nowhere. Nothing runs. While another CPU waits inside an
        access, by the tables of that one: a kernel's are the same."""
        processor = self._processor
        if not any(vcpu.inside for vcpu in processor.vcpus):
            processor.show(self)
        return processor.translate(address)

    def close(self) -> None:
        self._processor.close()
