"""The seam between architectures: facts of each, and who may know them."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT
from tests.vms import monitor
from vmlab.arch import get

X86 = get("x86_64")
#: what only an x86 PC has
WORDS = re.compile(
    r"\b(rip|cr[0-8]|rflags|0x3f8|0xfee0\w*|io_?apic|lapics?|i8042|cmos\w*|bz_?image|pvh|multiboot|tsc)\b",
    re.IGNORECASE,
)
ROOMS = re.compile(r"(^|/)(x86_64|pc|acpi)/|machine/board/pc")
#: files outside of these rooms, and why they name it
ALLOWED = {
    "core/manager.py": "register_mmio_ioapic is in libkrun's contract",
    "engine/kvm/abi.py": "the kernel's structures, as its header has them",
    "boot/arm64/formats.py": "a kernel for the other machine is called what it is",
    "boot/riscv/formats.py": "a kernel for the other machine is called what it is",
    "gdb/targets.py": "registers as gdb names and numbers them",
    "linux/guest.py": "command lines of the x86_64 kernels that are fetched",
}


@given(st.integers(1, 1 << 40).map(lambda pages: pages << 12))
def test_ram_is_laid_out_without_loss_or_overlap(size: int) -> None:
    layout = X86.ram_layout(size)
    assert sum(length for _, length in layout) == size
    end = 0
    for base, length in layout:
        assert base % 4096 == length % 4096 == 0 < length
        assert base >= end
        end = base + length
        assert not any(base <= chip.start < end for chip in X86.reserved)
        assert not base <= X86.windows.base < end


def test_a_cpu_shows_the_registers_of_its_architecture(engine: str) -> None:
    with monitor(engine) as vm:
        vm.pause()
        assert tuple(vm.cpus[0].regs) == X86.registers
        assert X86.program_counter in X86.registers


def code(path: Path) -> str:
    """The file without its comments and docstrings, which may compare and explain."""
    kept = []
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        text = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT)
        if token.type != tokenize.COMMENT and not text:
            kept.append(token.string)
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type
    return " ".join(kept)


def strangers() -> dict[str, set[str]]:
    """File -> words of x86 in its code, of those outside of x86's rooms."""
    found = {}
    for path in sorted((ROOT / "vmlab").rglob("*.py")):
        name = path.relative_to(ROOT / "vmlab").as_posix()
        if not ROOMS.search(name) and not name.startswith("arch/__init__"):
            words = {word.lower() for word in WORDS.findall(code(path))}
            if words:
                found[name] = words
    return found


def test_x86_is_named_in_its_own_rooms_alone() -> None:
    found = strangers()
    assert {name: words for name, words in found.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() <= found.keys(), "what names it no more need not be allowed to"


@pytest.mark.parametrize(("text", "word"), [("rip = 1", "rip"), ("x = 'the IOAPIC'", "ioapic")])
def test_such_words_are_found(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(f'"""About the RIP."""\n{text}  # cr3\n')
    assert [found.lower() for found in WORDS.findall(code(tmp_path / "m.py"))] == [word]
