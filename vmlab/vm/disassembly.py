"""A guest's code as instructions, by capstone; without it, as bytes."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

from vmlab.vm.backtrace import Names

__all__ = ["Instruction", "Listing", "around", "disassemble"]

#: bytes of the longest instruction, and what to go on by where there is none
_LONGEST = {"x86-64": 15, "x86-32": 15, "x86-16": 15}
_STEP = {"arm64": 4, "riscv64": 2, "riscv32": 2}
#: instructions of one listing
MOST = 1000
#: bytes from a function's beginning that are gone through to find where instructions begin
NEAR = 256


class Instruction(NamedTuple):
    """text: "(no instruction)" for bytes that are none, "" without capstone. function: "tick+0x1e", source:
    "irqlab.c:42", each "" where it is not known. here: the CPU stands there."""

    address: int
    bytes: bytes
    text: str
    function: str
    source: str
    here: bool


class Listing(list[Instruction]):
    """In order of addresses; prints a line each, an arrow where the CPU stands. note: what is missing."""

    note = ""

    def __repr__(self) -> str:
        lines = [_line(one) for one in self]
        return "\n".join([*lines, self.note] if self.note else lines) or "<no code>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def _line(one: Instruction) -> str:
    place = " ".join(filter(None, (one.function, f"({one.source})" if one.source else "")))
    arrow = "->" if one.here else "  "
    text = f"{arrow} {one.address:#x}  {one.bytes.hex(' '):<24}{one.text:<36}{place}"
    return text.rstrip()


def disassemble(
    mode: str, address: int, count: int, here: int, read: Any, names: Names | None
) -> Listing:
    """mode: as `Arch.code_mode` has it. read(address, size): the guest's memory, or fewer bytes."""
    longest = _LONGEST.get(mode, 4)
    data: bytes = read(address, count * longest)
    found = Listing()
    decoder = _decoder(mode)
    at, end = address, address + len(data)
    while len(found) < count and at < end:
        left = data[at - address :]
        size, text = _decoded(decoder, left[:longest], at) if decoder else (0, "")
        if not size:
            size = min(len(left), _STEP.get(mode, 1))
            text = "(no instruction)" if decoder else ""
        function = names.function(at) if names is not None else ""
        source = names.source(at) if names is not None else ""
        found.append(Instruction(at, left[:size], text, function, source, at == here))
        at += size
    if decoder is None:
        found.note = "only bytes: instructions need capstone (pip install 'vmlab[symbols]')"
    elif len(found) < count:
        found.note = f"nothing is mapped at {at:#x}"
    return found


def around(
    mode: str, here: int, before: int, after: int, read: Any, names: Names | None
) -> Listing:
    """`before` instructions and `after`, as far as it is known where those before begin: in code whose length
    varies, from the beginning of a function that is not far."""
    step = 4 if mode == "arm64" else 0
    back = before * step or _distance(names.function(here) if names is not None else "")
    if back:
        listing = disassemble(mode, here - back, back + after, here, read, names)
        for at, one in enumerate(listing):
            if one.here:
                found = Listing(listing[max(at - before, 0) : at + after])
                found.note = listing.note if at + after > len(listing) else ""
                return found
    return disassemble(mode, here, after, here, read, names)


def _distance(function: str) -> int:
    """Bytes from a function's beginning, of "tick+0x1e"; 0 where it is not known or far."""
    digits = function.rpartition("+0x")[2]
    try:
        distance = int(digits, 16)
    except ValueError:
        return 0
    return distance if distance <= NEAR else 0


def _decoded(decoder: Any, data: bytes, address: int) -> tuple[int, str]:
    for _, size, name, operands in decoder.disasm_lite(data, address, 1):
        return size, f"{name} {operands}".rstrip()
    return 0, ""


def _decoder(mode: str) -> Any:
    """None without capstone."""
    try:
        import capstone
    except ImportError:
        return None
    kinds = {
        "x86-64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "x86-32": (capstone.CS_ARCH_X86, capstone.CS_MODE_32),
        "x86-16": (capstone.CS_ARCH_X86, capstone.CS_MODE_16),
        "arm64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
        "riscv64": (
            capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC,
        ),
        "riscv32": (
            capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC,
        ),
    }  # fmt: skip
    return capstone.Cs(*kinds[mode]) if mode in kinds else None
