"""The harts of a RISC-V machine, by turns (see `turns`)."""

from __future__ import annotations

from collections.abc import Iterable

from vmlab.arch.riscv64 import REGISTERS, platform
from vmlab.arch.riscv64.cpu_state import CpuState
from vmlab.engine.api import EngineConfig, Tally
from vmlab.engine.soft.access import Access
from vmlab.engine.soft.codecache import CodeCaches
from vmlab.engine.soft.doorbells import Doorbells
from vmlab.engine.soft.kick import Kick
from vmlab.engine.soft.mode import Mode
from vmlab.engine.soft.riscv import csrs, registers, sbi, traps
from vmlab.engine.soft.riscv.chipset import Chipset
from vmlab.engine.soft.riscv.core import Core
from vmlab.engine.soft.riscv.registers import State
from vmlab.engine.soft.riscv.width import JoinedAccess, is_wide
from vmlab.engine.soft.turns import TurnCpu, Turns

__all__ = ["Processor", "Vcpu"]

_WFI = 0x1050_0073
#: menvcfg.STCE
_STCE = 1 << 63
#: what a firmware leaves to S mode: every trap but its calls, and S mode's interrupts
_MEDELEG, _MIDELEG = 0xFFFF & ~(1 << 9), 0x222
#: of the 16550: registers and LSR.DR
_DATA, _LSR, _DR = 0, 5, 1


class Processor(Turns["Vcpu"]):
    """portable: without the library's inner functions, even where they are known."""

    chipset: Chipset
    core: Core

    def __init__(
        self,
        config: EngineConfig,
        bits: int,
        chipset: Chipset,
        doorbells: Doorbells,
        exits: Tally,
        caches: CodeCaches,
        patched: bool,
        portable: bool,
    ) -> None:
        self.chipset, self.exits, self.bits = chipset, exits, bits
        self.ram = config.memory
        self.uc = uc = registers.new_hart(bits)
        ram = sorted((region.base, region.end) for region in config.memory.regions)
        for region in config.memory.regions:
            uc.map_ram(region.base, region.size, region.host_address)
        self._caches = caches
        caches.join(uc, registers.offset("satp", bits))
        self.core = Core(uc, bits, self, portable)
        joined = config.exact and self.core.native
        kind = JoinedAccess if joined else Access
        self.access = kind(0, config, chipset, doorbells, exits, self._interrupt_current)
        if isinstance(self.access, JoinedAccess):
            self.access.wide = self._is_wide
        self.access.attach(uc, ram)
        self._begin_turns(Kick(uc, self._on_block, patched))
        #: where the calls of the firmware write
        self.uart = platform.UART_BASE
        self.vcpus = [Vcpu(n, self) for n in range(config.cpus)]

    # -- callbacks -------------------------------------------------------------------------------------

    def _on_block(self) -> None:
        """At a block's start while armed."""
        vcpu = self.current
        if vcpu.stop_wanted:
            self.core.stop()
            return
        self._kick.disarm()
        seen = self.drive(vcpu)
        # natively the hart looks itself
        if seen and not self.core.leave_for_interrupt() and not self.core.native:
            self._look_again(vcpu)
        # whoever set a flag between the look and the disarming has kicked in vain
        wanted: bool = vcpu.stop_wanted
        if wanted or self.chipset.pending(vcpu.number) != seen:
            self.arm()

    def drive(self, vcpu: Vcpu) -> int:
        """Let the hart see what is driven -> that, but for what it was sent, which it has now."""
        chipset, number = self.chipset, vcpu.number
        with chipset.lock:
            pending, owned = chipset.pending(number), chipset.owned[number]
            chipset.sent[number] = False
            self.core.drive(pending, owned)
            return chipset.lines[number]

    def on_exception(self, cause: int) -> bool:
        try:
            return self.current.on_exception(cause, self.core.state)
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)
            return True

    def time(self) -> int:
        return self.chipset.clock.ticks()

    def look_at_lines(self) -> None:
        """They have changed, by something that the hart that runs does."""
        if self._current is not None:
            self.drive(self._current)

    # -- turns -----------------------------------------------------------------------------------------

    def enter(self, vcpu: Vcpu) -> None:
        """Let Unicorn have the hart's state."""
        self._caches.begin()
        self._change_to(vcpu)

    def showing(self, vcpu: Vcpu) -> State:
        """The hart's registers, to be read: another one may wait inside an access."""
        return self.core.look() if self._current is vcpu else vcpu.state

    def begin(self, vcpu: Vcpu, entry: int, supervisor: bool, values: dict[str, int]) -> None:
        """Put the hart in its start state, with these registers."""
        self.leave()
        self._pristine.restore()
        vcpu.saved.save()
        state = vcpu.state
        state["pc"], state["mhartid"] = entry, vcpu.number
        state.write("x10", vcpu.number)
        for name, value in values.items():
            state.write(name, value)
        if supervisor:
            state["priv"] = registers.SUPERVISOR
            state["medeleg"], state["mideleg"] = _MEDELEG, _MIDELEG
        vcpu.pc = entry

    def close(self) -> None:
        if self.uc.handle:
            self._caches.leave(self.uc)
        super().close()

    def instruction(self, address: int) -> int | None:
        """The one at a virtual address, of two bytes or four; None where there is none that can be read."""
        halves = []
        for at in (address, address + 2):
            where = self.physical(at)
            if self.ram.find(where, 2) is None:
                return None
            halves.append(int.from_bytes(self.ram.read(where, 2), "little"))
            if halves[0] & 3 != 3:
                return halves[0]
        return halves[0] | halves[1] << 16

    def _is_wide(self) -> bool:
        instruction = self.instruction(self.core.now())
        return instruction is not None and is_wide(instruction, self.bits)


class Vcpu(TurnCpu):
    _firmware = "SBI"
    _processor: Processor

    def __init__(self, number: int, processor: Processor) -> None:
        super().__init__(number, processor.uc)
        self._processor = processor
        #: its registers while it does not run
        self.state = State(self.saved.address, processor.bits)
        #: calls of the firmware are answered here
        self._supervisor = False
        #: a halted hart goes on when one of these bits of mip is driven
        self._awaited = 0
        self.menvcfg = 0

    def _is_woken(self) -> bool:
        return bool(self._processor.chipset.pending(self.number) & self._awaited)

    def _code(self) -> str:
        code = self._processor.instruction(self.pc)
        return "" if code is None else f"{code:08x}"

    # -- state ---------------------------------------------------------------------------------------

    def load(self, state: CpuState | None) -> None:
        """Put the hart in its start state; None: wait to be started."""
        self.startup = self._event = None
        self.menvcfg = 0
        self._processor.access.failure = None
        self.mode = Mode.WAITING if state is None else Mode.RUNNING
        start = CpuState(0) if state is None else state
        self._supervisor = start.supervisor
        self._processor.uart = start.uart
        self._processor.begin(self, start.pc, start.supervisor, dict(start.regs))
        if start.supervisor:
            self._processor.chipset.own_supervisor_timer(self.number, True)

    def registers(self) -> dict[str, int]:
        state = self._processor.showing(self)
        return {name: state.read(name) for name in REGISTERS}

    def set_registers(self, values: dict[str, int]) -> None:
        """Those of `REGISTERS`; they are checked by the caller."""
        self._processor.enter(self)
        core = self._processor.core
        state = core.look()
        for name, value in values.items():
            state.write(name, value)
        core.commit()
        self._moved(values)

    # -- what Unicorn leaves to us ---------------------------------------------------------------------

    def on_exception(self, cause: int, state: State) -> bool:
        if cause == traps.ILLEGAL:
            instruction = self._processor.instruction(state["pc"])
            return instruction is not None and csrs.emulate(self, state, instruction)
        if cause != traps.ECALL + registers.SUPERVISOR or not self._supervisor:
            return False
        # before it is answered: a hart that stops here does not ask again
        state["pc"] = state["pc"] + 4 & (1 << state.bits) - 1
        extension, function = int(state.x[17]), int(state.x[16])
        arguments = [int(value) for value in state.x[10:16]]
        access = self._processor.access
        access.caller = state["pc"] - 4
        try:
            error, value = sbi.call(self, extension, function, arguments)
        finally:
            access.caller = None
        state.x[10] = error & (1 << state.bits) - 1
        if value is not None:
            state.x[11] = value & (1 << state.bits) - 1
        return True

    # -- CSRs that Unicorn has not -----------------------------------------------------------------------

    def time(self) -> int:
        return self._processor.time()

    @property
    def stimecmp(self) -> int:
        return self._processor.chipset.stimecmp[self.number]

    @property
    def sstc(self) -> bool:
        return bool(self.menvcfg & _STCE)

    def set_stimecmp(self, value: int) -> None:
        self._processor.chipset.set_supervisor_timer(self.number, value)

    def set_menvcfg(self, value: int) -> None:
        before, self.menvcfg = self.menvcfg, value & _STCE
        if (before ^ value) & _STCE:
            self._processor.chipset.own_supervisor_timer(self.number, bool(value & _STCE))

    # -- what the guest asks of its firmware ---------------------------------------------------------------

    @property
    def bits(self) -> int:
        return self._processor.bits

    @property
    def harts(self) -> int:
        return len(self._processor.vcpus)

    def set_timer(self, value: int) -> None:
        self.set_stimecmp(value)

    def send(self, harts: Iterable[int]) -> None:
        for hart in harts:
            self._processor.chipset.send(hart)

    def forget_sent(self) -> None:
        self._processor.core.state["mip"] &= ~traps.SSIP

    def put(self, data: bytes) -> None:
        for byte in data:
            self._processor.access.store(self._processor.uart + _DATA, 1, byte)

    def get(self) -> int:
        load, uart = self._processor.access.load, self._processor.uart
        return load(uart + _DATA, 1) if load(uart + _LSR, 1) & _DR else -1

    def memory(self, address: int, size: int) -> memoryview | None:
        ram = self._processor.ram
        return ram.view(address, size) if ram.find(address, size) is not None else None

    def is_started(self, hart: int) -> bool:
        return self._processor.vcpus[hart].is_up

    def start_hart(self, hart: int, address: int, opaque: int) -> None:
        self.start_up(self._processor.vcpus[hart], address, opaque)

    def suspend(self) -> None:
        self._halt()
        self._processor.core.stop()

    # -- running -----------------------------------------------------------------------------------

    def _see_lines(self) -> bool:
        return bool(self._processor.drive(self))

    def _is_wfi(self) -> bool:
        return self._processor.instruction(self._processor.core.pc) == _WFI

    def _ready(self) -> bool:
        if self.mode is Mode.WAITING and self.startup is not None:
            (address, opaque), self.startup = self.startup, None
            self._processor.begin(self, address, True, {"x11": opaque})
            self.mode, self._supervisor = Mode.RUNNING, True
            self._processor.chipset.own_supervisor_timer(self.number, True)
        elif self.mode is Mode.HALTED and self._is_woken():
            self.mode = Mode.RUNNING
        return self.mode is Mode.RUNNING

    def _halt(self) -> None:
        """Until an interrupt that is enabled is pending, whether it can be taken or not (§3.3.3)."""
        state = self._processor.core.look()
        self._awaited = state["mie"]
        own = state["mip"] & ~self._processor.chipset.owned[self.number]
        if not own & self._awaited:
            self.mode = Mode.HALTED
