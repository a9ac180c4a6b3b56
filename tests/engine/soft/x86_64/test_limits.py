"""What Unicorn does not do, as docs/software-engine.md lists it: a test that fails tells of one thing less.

Each row: what, the bytes of it, the exception that the processor raises and Unicorn does not.
"""

from __future__ import annotations

import pytest

from tests.engine.soft import lab as bench_module
from tests.engine.soft.lab import CODE, RESULTS, Lab, bench
from tests.support import ROOT, require_kvm

DOCUMENT = ROOT / "docs" / "software-engine.md"
MISSING = [
    # mov rax,cr4; or rax,0x200; mov cr4,rax; mov esi,0x40101; movaps xmm0,[rsi]
    ("MOVAPS of an address that is not aligned", "0f20e0480d000200000f22e0be010104000f2806", 13),
    # .byte 0xf0,0x89,0xc0
    ("LOCK before an instruction that takes none", "f089c0", 6),
    # mov rax,cr4; bts rax,31; mov cr4,rax
    ("a reserved bit of CR4", "0f20e0480fbae81f0f22e0", 13),
    # mov rax,cr0; bts rax,29; btr rax,30; mov cr0,rax
    ("CR0.NW without CR0.CD", "0f20c0480fbae81d480fbaf01e0f22c0", 13),
    # mov rax,cr3; bts rax,60; mov cr3,rax
    ("a reserved bit of CR3", "0f20d8480fbae83c0f22d8", 13),
    # mov eax,0x100; mov cr8,rax
    ("a reserved bit of CR8", "b800010000440f22c0", 13),
    # mov ecx,0xc0000080; rdmsr; bts eax,20; wrmsr
    ("a reserved bit of EFER", "b9800000c00f320fbae8140f30", 13),
    # mov ecx,0xc0000080; rdmsr; btr eax,8; wrmsr
    ("EFER.LME changed while paging", "b9800000c00f320fbaf0080f30", 13),
    # mov ecx,0xc0000100; mov eax,0; mov edx,0x8000; wrmsr
    ("FS.base that is not canonical", "b9000100c0b800000000ba008000000f30", 13),
    # mov ecx,0xc0000082; mov eax,0; mov edx,0x8000; wrmsr
    ("LSTAR that is not canonical", "b9820000c0b800000000ba008000000f30", 13),
    # mov rax,0x800000000000; mov [0x40102],rax; lgdt [0x40100]
    (
        "LGDT of a base that is not canonical",
        "48b8000000000080000048890425020104000f01142500010400",
        13,
    ),
    # mov rax,0x100000000; mov dr7,rax
    ("a reserved bit of DR7", "48b800000000010000000f23f8", 13),
    # mov ecx,0x12345; rdmsr
    ("RDMSR of an MSR that there is not", "b9452301000f32", 13),
    # mov ecx,0x12345; wrmsr
    ("WRMSR of an MSR that there is not", "b9452301000f30", 13),
]
#: lidt [0x7000]
_LIDT = bytes.fromhex("0f011c2500700000")
#: out 0xf4, al; 1: jmp 1b
_END = bytes.fromhex("e6f4ebfe")
UNDEFINED, PROTECTION = 6, 13


def vector_of(lab: Lab, code: str) -> int:
    """The exception that ends `code`, 0 for none."""
    for vector in (UNDEFINED, PROTECTION):
        handler = CODE + 0x1000 * vector
        lab.gate(vector, handler)
        # mov byte ptr [0x40000], vector
        lab.memory.write(handler, bytes.fromhex("c6042500000400") + bytes((vector,)) + _END)
    lab.run(_LIDT + bytes.fromhex(code) + _END)
    assert not lab.stops
    return lab.u64(RESULTS)


@pytest.mark.parametrize("row", MISSING, ids=lambda row: row[0])
def test_what_is_not_noticed(row: tuple[str, str, int]) -> None:
    what, code, _vector = row
    assert what in DOCUMENT.read_text(), "the document does not list it"
    with bench() as lab:
        assert vector_of(lab, code) == 0


@pytest.mark.kvm
@pytest.mark.parametrize("row", MISSING, ids=lambda row: row[0])
def test_what_is_right(row: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    require_kvm()
    from vmlab.engine.kvm import KvmEngine

    monkeypatch.setattr(bench_module, "X86Engine", lambda config, _: KvmEngine(config))
    _what, code, vector = row
    with bench() as lab:
        assert vector_of(lab, code) == vector


def test_a_task_gate_is_a_protection_fault() -> None:
    """In 32 bits the processor would switch to the task."""
    assert "Task gates" in DOCUMENT.read_text()
    with bench() as lab:
        lab.memory.write(bench_module.GDT + 0x10, (0x00CF9B000000FFFF).to_bytes(8, "little"))
        lab.gate32(PROTECTION, CODE + 0x100)
        lab.gate32(3, 0, kind=0x85)
        # lidt [0x7010]; int3 ... pop eax; mov [0x40000],eax; out 0xf4,al
        code = bytes.fromhex("0f011d10700000cc")
        code = code.ljust(0x100, b"\x90") + bytes.fromhex("58a300000400") + _END
        lab.load(code, "protected")
        lab.engine.start()
        lab.finish()
        assert lab.u64(RESULTS) == 3 * 8 + 2


def test_data_breakpoints_are_not_met() -> None:
    """DR0 and DR7 watch 0x40100 for writes; neither engine's emulation of CPL 0 here notices one."""
    assert "Breakpoints on data" in DOCUMENT.read_text()
    code = "b800010400 0f23c0 b801000d00 0f23f8 8904250001040090"
    with bench() as lab:
        lab.gate(1, CODE + 0x1000)
        lab.memory.write(CODE + 0x1000, bytes.fromhex("c604250000040001") + _END)
        lab.run(_LIDT + bytes.fromhex(code) + _END)
        assert lab.u64(RESULTS) == 0
