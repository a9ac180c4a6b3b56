"""Breakpoints and watchpoints by the debug registers, and by INT3 (KVM API 4.87; Intel SDM vol 3 chapter 18).

Four addresses fit the debug registers; watchpoints have them first. Further breakpoints are INT3s in guest
memory, where this KVM hands those to us: one that emulates the guest's kernel itself may not, which a probe
tells, once a process. Where it does not, the vCPUs are stepped, instruction by instruction.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vmlab.core.once import once
from vmlab.engine.api import Hit, Point, Stop
from vmlab.engine.kvm import abi, access
from vmlab.errors import EngineError, VmlabError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["X86Debugger", "translate"]

REGISTERS = 4
_INT3 = b"\xcc"
_SIZES = {1: 0, 2: 1, 4: 3, 8: 2}
#: R/W field of DR7: execution, writes, reads and writes
_KINDS = {"code": 0, "write": 1, "access": 3, "read": 3}
_BP, _DB = 3, 1
_MASK64 = (1 << 64) - 1
#: of the probes, in real mode
_AT, _WATCHED = 0x1000, 0x3000
# out 0xf4, al; hlt
_END = bytes.fromhex("e6f4f4")
#: two NOPs; a store of AL at _WATCHED, and a NOP
_NOPS, _STORE = bytes.fromhex("9090") + _END, bytes.fromhex("a2003090") + _END
_PATIENCE = 2.0


def translate(vcpu: VcpuFd, linear: int) -> int | None:
    at = abi.Translation(linear_address=linear & _MASK64)
    try:
        vcpu.call("KVM_TRANSLATE", at)
    except EngineError:
        return None
    return int(at.physical_address) if at.valid else None


class X86Debugger:
    """See `vmlab.engine.kvm.parts.Debugger`. int3, watching: ask whether this KVM can do that."""

    def __init__(
        self,
        memory: GuestMemory,
        int3: Callable[[], bool] | None = None,
        watching: Callable[[], bool] | None = None,
    ) -> None:
        self._memory = memory
        self._int3 = int3 or int3_works
        self._watching = watching or watching_works
        #: in the debug registers, in their order
        self._hardware: list[Point] = []
        #: virtual address -> (its point, physical address, what was there)
        self._patched: dict[int, tuple[Point, int, bytes]] = {}
        self._armed = abi.GuestDebug()

    def plan(self, vcpu: VcpuFd, points: Sequence[Point]) -> list[str]:
        watched = [one for one in points if one.kind != "code"]
        if len(watched) > REGISTERS:
            raise EngineError(
                f"{len(watched)} watchpoints; this CPU has {REGISTERS} debug registers: delete some, or use"
                " engine='soft'"
            )
        if watched and not self._watching():
            raise EngineError(
                "this KVM executes a guest's kernel by emulation and does not see what that touches;"
                " engine='soft' watches memory"
            )
        for one in watched:
            if one.size not in _SIZES or one.address % one.size:
                raise EngineError(
                    f"{one.size} bytes at {one.address:#x}: a debug register watches 1, 2, 4 or 8 bytes at a"
                    " multiple of their number; engine='soft' watches any"
                )
        code = [one for one in points if one.kind == "code"]
        room = REGISTERS - len(watched)
        if watched and len(code) > room and not self._int3():
            raise EngineError(
                f"{len(code)} breakpoints beside {len(watched)} watchpoints: this KVM hands us no"
                f" INT3, so that all must fit {REGISTERS} debug registers; delete some, or use engine='soft'"
            )
        self._restore()
        self._hardware = [*watched, *code[:room]]
        ways = {one.number: "hardware" for one in self._hardware}
        for one in code[room:]:
            ways[one.number] = "int3" if self._patch(vcpu, one) else "single-stepping"
        self._armed = self._registers()
        return [ways[one.number] for one in points]

    def _patch(self, vcpu: VcpuFd, point: Point) -> bool:
        at = translate(vcpu, point.address)
        if at is None or self._memory.find(at, 1) is None or not self._int3():
            return False
        self._patched[point.address] = (point, at, self._memory.read(at, 1))
        self._memory.write(at, _INT3)
        return True

    def _restore(self) -> None:
        for _, at, byte in self._patched.values():
            if self._memory.read(at, 1) == _INT3:  # else the guest has put other code there
                self._memory.write(at, byte)
        self._patched.clear()

    def _registers(self) -> abi.GuestDebug:
        made = abi.GuestDebug()
        for number, one in enumerate(self._hardware):
            made.debugreg[number] = one.address & _MASK64
            size = 0 if one.kind == "code" else _SIZES[one.size]
            # L and G of the register, its R/W and LEN
            made.debugreg[7] |= 3 << 2 * number | (_KINDS[one.kind] | size << 2) << 16 + 4 * number
        if self._hardware:
            made.control |= abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_USE_HW_BP
            made.debugreg[7] |= 0x700  # LE, GE, and bit 10, which reads one
        if self._patched:
            made.control |= abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_USE_SW_BP
        return made

    def arm(self, vcpu: VcpuFd) -> None:
        vcpu.call("KVM_SET_GUEST_DEBUG", self._armed)

    @contextlib.contextmanager
    def lifted(self, vcpu: VcpuFd) -> Iterator[None]:
        """Another vCPU that is there in this moment does not stop."""
        found = self._patched.get(int(vcpu.regs().rip))
        if found is not None:
            self._memory.write(found[1], found[2])
        try:
            yield
        finally:
            if found is not None:
                self._memory.write(found[1], _INT3)

    def unpatched(self, address: int, data: bytes) -> bytes:
        whole = bytearray(data)
        for at, (_, _, byte) in self._patched.items():
            if 0 <= at - address < len(whole):
                whole[at - address : at - address + 1] = byte
        return bytes(whole)

    def hit(self, vcpu: VcpuFd) -> Hit | None:
        pc = int(vcpu.regs().rip)
        exception, dr6 = vcpu.u32[access.DEBUG_EXCEPTION_32], vcpu.u64[access.DEBUG_DR6_64]
        if exception == _BP:
            found = self._patched.get(pc)
            return Hit(found[0].number, pc) if found is not None else None
        if exception != _DB:
            return None
        for number, one in enumerate(self._hardware):
            if dr6 >> number & 1:
                if one.kind == "code":
                    return Hit(one.number, pc)
                return Hit(one.number, pc, one.address, one.size, None, one.kind == "write")
        # emulated code: some tell no DR6
        for one in self._hardware:
            if one.kind == "code" and one.address == pc:
                return Hit(one.number, pc)
        return None


@once
def int3_works() -> bool:
    """Whether an INT3 of a guest's kernel comes to us. Done once a process, in some ms."""
    elsewhere = [Point(n, "code", 0x8000 + n) for n in range(1, REGISTERS + 1)]
    return _try(_NOPS, [*elsewhere, Point(0, "code", _AT + 1)])


@once
def watching_works() -> bool:
    """Whether a store of a guest's kernel to a watched address stops it: one that KVM emulates does not."""
    return _try(_STORE, [Point(0, "write", _WATCHED, 1)])


def _try(program: bytes, points: Sequence[Point]) -> bool:
    """Whether a guest meets one of the points."""
    from vmlab.arch.x86_64.cpu_state import CpuState
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.api import EngineConfig
    from vmlab.engine.kvm.engine import KvmEngine

    memory, trial = GuestMemory.allocate(1 << 20), _Trial()
    try:
        memory.write(_AT, program)
        # where the guest itself would take an INT3: the same end, without us
        memory.write(4 * _BP, (_AT + len(program) - len(_END)).to_bytes(4, "little"))
        made = EngineConfig(memory, trial, trial, on_stop=trial.stopped, on_break=trial.met)
        engine = KvmEngine(made)
        try:
            engine.load(CpuState("real", _AT))
            engine.debugger = X86Debugger(memory, lambda: True, lambda: True)
            engine.set_points(points)
            engine.start()
            return trial.over.wait(_PATIENCE) and trial.works
        finally:
            engine.close()
    except VmlabError:
        return False
    finally:
        memory.close()


class _Trial:
    """The probe's guest: what it does first says it all."""

    def __init__(self) -> None:
        self.over, self.works = threading.Event(), False

    def read(self, address: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        self.over.set()

    def stopped(self, cpu: int, stop: Stop) -> None:
        self.over.set()

    def met(self, cpu: int, hit: Hit) -> None:
        self.works = self.works or not self.over.is_set()
        self.over.set()
