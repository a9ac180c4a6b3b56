"""Who called whom, by frame pointers.

Each function that keeps one has stored its caller's frame pointer beside the address to return to: on x86_64
at [rbp] and [rbp + 8] (System V ABI, AMD64, 3.2.2), on arm64 at [x29] and [x29 + 8] (AAPCS64, 6.4.6), on RISC-V
below [s0] (the return address at s0 - 8, the frame before at s0 - 16). The stack is the guest's and may say
anything: frames go upwards, are aligned, and there are `depth` of them at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Backtrace", "Frame", "backtrace"]

#: a frame that is so much further up is none
_STEP = 1 << 20


class Frame(NamedTuple):
    """pc: where the function is, or goes on when what it has called returns."""

    pc: int
    frame: int


class Backtrace(list[Frame]):
    """Innermost first; prints a line each."""

    def __repr__(self) -> str:
        return "\n".join(f"#{n:<3} {one.pc:#x}" for n, one in enumerate(self)) or "<no frames>"


class _Convention(NamedTuple):
    """Names of registers; word: bytes; where the two words are, from the frame pointer."""

    counter: str
    frame: str
    word: int
    saved: int
    returns: int


_CONVENTIONS = {
    "x86_64": _Convention("rip", "rbp", 8, 0, 8),
    "arm64": _Convention("pc", "x29", 8, 0, 8),
    "riscv64": _Convention("pc", "x8", 8, -16, -8),
    "riscv32": _Convention("pc", "x8", 4, -8, -4),
}


def backtrace(
    arch: str, regs: dict[str, int], read: Callable[[int, int], bytes], depth: int
) -> Backtrace:
    """read(address, size): the guest's memory, or fewer bytes. `depth` frames at most."""
    way = _CONVENTIONS[arch]
    frame = regs[way.frame]
    found = Backtrace([Frame(regs[way.counter], frame)])
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
