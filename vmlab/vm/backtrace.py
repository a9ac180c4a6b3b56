"""Who called whom, by frame pointers.

Each function that keeps one has stored its caller's frame pointer beside the address to return to: on x86_64
at [rbp] and [rbp + 8] (System V ABI, AMD64, 3.2.2), on arm64 at [x29] and [x29 + 8] (AAPCS64, 6.4.6), on
RISC-V below [s0] (the return address at s0 - 8, the frame before at s0 - 16). At a function's first
instruction it has not done so yet: its caller is known by the stack, or by the link register. The stack is
the guest's and may say anything: frames go upwards, are aligned, and there are `depth` of them at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from vmlab.arch import machine

__all__ = ["Backtrace", "Frame", "Names", "backtrace"]

#: a frame that is so much further up is none
_STEP = 1 << 20


class Frame(NamedTuple):
    """pc: where the function is, or goes on when what it has called returns."""

    pc: int
    frame: int


class Names(Protocol):
    """Who names code."""

    def function(self, pc: int | None) -> str: ...
    def source(self, pc: int | None) -> str: ...


class Backtrace(list[Frame]):
    """Innermost first; prints a line each, with the names that are known."""

    names: Names | None = None

    def __repr__(self) -> str:
        return "\n".join(map(self._line, range(len(self)))) or "<no frames>"

    def _line(self, number: int) -> str:
        frame, names = self[number], self.names
        text = f"#{number:<3} {frame.pc:#x}"
        if names is None:
            return text
        # a caller goes on behind its call, which may be the last instruction of its line
        source = names.source(frame.pc - (number > 0))
        words = [text, names.function(frame.pc), f"({source})" if source else ""]
        return " ".join(filter(None, words))


class _Convention(NamedTuple):
    """Names of registers; word: bytes; where the two words are, from the frame pointer."""

    frame: str
    word: int
    saved: int
    returns: int


_CONVENTIONS = {
    "x86_64": _Convention("rbp", 8, 0, 8),
    "arm64": _Convention("x29", 8, 0, 8),
    "riscv64": _Convention("x8", 8, -16, -8),
    "riscv32": _Convention("x8", 4, -8, -4),
}


def backtrace(
    arch: str,
    regs: dict[str, int],
    read: Callable[[int, int], bytes],
    depth: int,
    names: Names | None = None,
) -> Backtrace:
    """read(address, size): the guest's memory, or fewer bytes. `depth` frames at most."""
    way = _CONVENTIONS[arch]
    frame = regs[way.frame]
    counter = regs[machine(arch).program_counter]
    found = Backtrace([Frame(counter, frame)])
    found.names = names
    first = names is not None and names.function(counter).endswith("+0x0")
    entered = _entered_from(arch, counter, regs, read, first)
    if entered and depth > 1:
        found.append(Frame(entered, frame))
    while len(found) < depth and frame and frame % way.word == 0:
        low = frame + min(way.saved, way.returns)
        data = read(low, 2 * way.word) if low >= 0 else b""
        if len(data) < 2 * way.word:
            break
        words = [int.from_bytes(data[at : at + way.word], "little") for at in (0, way.word)]
        before, back = words if way.saved < way.returns else words[::-1]
        if not back:
            break
        found.append(Frame(back, before))
        if not frame < before < frame + _STEP:
            break
        frame = before
    return found


def _entered_from(
    arch: str,
    counter: int,
    regs: dict[str, int],
    read: Callable[[int, int], bytes],
    first: bool,
) -> int:
    """Where the function returns to that stands at its first instruction; 0: it does not. first: whether
    symbols say that it does; without them its code tells, where it begins as most do."""
    code = read(counter, 5)
    word = int.from_bytes(code[:4], "little")
    if arch == "x86_64":
        # PUSH of it, maybe behind ENDBR64
        pushes = (code[4:5] if code[:4] == b"\xf3\x0f\x1e\xfa" else code[:1]) == b"\x55"
        return int.from_bytes(read(regs["rsp"], 8), "little") if first or pushes else 0
    if arch == "arm64":
        # STP x29, x30, [sp, #-n]!
        return regs["x30"] if first or word & 0xFFC0_7FFF == 0xA980_7BFD else 0
    # ADDI sp, sp, -n; C.ADDI and C.ADDI16SP of sp, negative
    full = word & 0xFFFFF == 0x10113 and word >> 31
    short = word & 0x1F83 == 0x1101 and word >> 13 & 7 in (0, 3)
    return regs["x1"] if first or full or short else 0
