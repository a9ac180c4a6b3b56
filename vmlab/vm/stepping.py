"""Going on in larger steps than an instruction: over a call, out of a function, to an address."""

from __future__ import annotations

from typing import Protocol

from vmlab.arch import machine
from vmlab.errors import ConfigError, ExpectTimeout, StateError
from vmlab.machine.config import MachineConfig
from vmlab.vm.breakpoints import Breakpoint, Stopped
from vmlab.vm.state import State
from vmlab.vm.views import Cpu

__all__ = ["out", "over", "to"]

_REX = range(0x40, 0x50)


class VM(Protocol):
    """What is needed of it."""

    @property
    def config(self) -> MachineConfig: ...
    @property
    def state(self) -> State: ...
    @property
    def cpus(self) -> list[Cpu]: ...
    def step(self, count: int = 1, cpu: int = 0) -> int: ...
    def resume(self) -> None: ...
    def pause(self) -> None: ...
    def break_at(self, address: int | str, /) -> Breakpoint: ...
    def wait_for_break(self, timeout: float | None = 5) -> Stopped: ...


def _counter(vm: VM, cpu: int) -> int:
    return vm.cpus[cpu].regs[machine(vm.config.arch).program_counter]


def call_length(arch: str, code: bytes) -> int:
    """Bytes of the call that `code` begins with; 0: it is none."""
    if arch == "x86_64":
        return _x86_call(code)
    word = int.from_bytes(code[:4], "little")
    if arch == "arm64":
        # BL, BLR (DDI 0487, C6.2)
        return 4 if word >> 26 == 0b100101 or word & 0xFFFF_FC1F == 0xD63F_0000 else 0
    half = word & 0xFFFF
    if half & 3 != 3:  # C.JALR, and on RV32 C.JAL
        jalr = half & 0xF07F == 0x9002 and half >> 7 & 31
        return 2 if jalr or (arch == "riscv32" and half & 0xE003 == 0x2001) else 0
    # JAL and JALR that keep where they came from in ra
    return 4 if word & 0x7F in (0x6F, 0x67) and word >> 7 & 31 == 1 else 0


def _x86_call(code: bytes) -> int:
    """CALL rel32, and CALL r/m (Intel SDM vol 2)."""
    at = int(bool(code) and code[0] in _REX)
    if code[at : at + 1] == b"\xe8":
        return at + 5
    if len(code) < at + 3 or code[at] != 0xFF or code[at + 1] >> 3 & 7 != 2:
        return 0
    mode, rm = code[at + 1] >> 6, code[at + 1] & 7
    length = at + 2
    if mode != 3 and rm == 4:
        wide = mode == 0 and code[at + 2] & 7 == 5
        return length + 1 + (4 if wide or mode == 2 else mode)
    if mode == 0 and rm == 5:
        return length + 4
    return length + {0: 0, 1: 1, 2: 4, 3: 0}[mode]


def over(vm: VM, cpu: int, timeout: float) -> None:
    at = _counter(vm, cpu)
    length = call_length(vm.config.arch, vm.cpus[cpu].read(at, 16))
    if length:
        to(vm, at + length, timeout)
    else:
        vm.step(1, cpu)


def out(vm: VM, cpu: int, timeout: float) -> None:
    frames = vm.cpus[cpu].backtrace(2)
    if len(frames) < 2:
        raise StateError(
            "the caller is not known: there is no frame pointer here; run_to(address) goes on to an address"
        )
    to(vm, frames[1].pc, timeout)


def to(vm: VM, address: int, timeout: float) -> Stopped:
    if vm.state != "paused":
        raise StateError(f"the machine is {vm.state}; pause it first")
    if type(address) is not int:
        raise ConfigError(f"address={address!r:.60}: a whole number")
    point = vm.break_at(address)
    try:
        vm.resume()
        return vm.wait_for_break(timeout)
    except ExpectTimeout:
        vm.pause()
        raise ExpectTimeout(
            f"{address:#x} was not reached within {timeout:g} s; the guest is paused where it is"
        ) from None
    finally:
        point.delete()
