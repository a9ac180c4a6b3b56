"""`vm.cpus[0].show()` and `.disassemble()`: instructions, flags and what has moved, on each architecture."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.support import require_kvm, require_module
from vmlab import VM
from vmlab.arch import machine
from vmlab.errors import ConfigError, StateError
from vmlab.vm.disassembly import Listing, around, disassemble

KINDS = [("x86_64", "soft"), ("x86_64", "kvm"), ("arm64", "soft"), ("riscv64", "soft")]
#: how the bundled irqlab's `main` begins
FIRST = {"x86_64": "push", "arm64": "stp", "riscv64": "c.addi16sp"}


@pytest.fixture(params=KINDS, ids="-".join)
def vm(request: pytest.FixtureRequest) -> Iterator[VM]:
    arch, engine = request.param
    if engine == "kvm":
        require_kvm()
    require_module("unicorn")
    require_module("capstone")
    require_module("elftools")
    made = VM("irqlab", arch=arch, engine=engine, cmdline="ticks=50 period=20000")
    made.break_at("tick")
    with made:
        made.wait_for_break(timeout=20)
        yield made


def test_where_it_stands_and_what_moves(vm: VM) -> None:
    cpu, counter = vm.cpus[0], vm.config.platform.program_counter
    page = cpu.show()
    assert (page.changed, page.regs) == ([], cpu.regs)
    (here,) = [one for one in page.code if one.here]
    assert (here.address, here.function) == (page.regs[counter], "tick+0x0")
    assert f"-> {here.address:#x}" in repr(page)
    assert "tick+0x0" in page.title
    assert page.backtrace[0].pc == here.address
    vm.step()
    after = vm.cpus[0].show()
    assert counter in after.changed
    assert set(after.changed) == {
        name for name, value in after.regs.items() if value != page.regs[name]
    }
    following = page.code[page.code.index(here) + 1]
    assert [one.address for one in after.code if one.here] == [following.address]
    assert "* has changed" in repr(after)
    assert "<pre>" in after._repr_html_()


def test_flags_have_names(vm: VM) -> None:
    flags, regs = vm.cpus[0].show().flags, vm.cpus[0].regs
    declared = vm.config.platform.flags
    assert flags.keys() == declared.keys() & regs.keys()
    for register, names in flags.items():
        assert names == [name for bit, name in declared[register] if regs[register] & 1 << bit]
    assert any(flags.values())


def test_code_elsewhere(vm: VM) -> None:
    cpu = vm.cpus[0]
    listing = cpu.disassemble("main", 3)
    assert len(listing) == 3
    assert listing[0].function == "main+0x0"
    assert listing[0].text.split()[0] == FIRST[vm.config.arch]
    assert [one.address for one in cpu.disassemble(listing[1].address, 2)] == [
        one.address for one in listing[1:]
    ]
    assert not any(one.here for one in listing)
    nothing = cpu.disassemble(0xFFFF_FFFF_F000)
    assert (len(nothing), repr(nothing)) == (0, "nothing is mapped at 0xfffffffff000")
    # what a breakpoint has put there is not shown
    assert cpu.disassemble("tick", 1)[0].text != "int3"


def test_refusals(vm: VM) -> None:
    cpu = vm.cpus[0]
    with pytest.raises(ConfigError, match="did you mean 'main'"):
        cpu.disassemble("mian")
    for count in (0, -1, 1001, "3", None, True):
        with pytest.raises(ConfigError, match="count="):
            cpu.disassemble("main", count)  # type: ignore[arg-type]
    for address in (-1, 1 << 64, 1.5):
        with pytest.raises(ConfigError, match="address="):
            cpu.disassemble(address)  # type: ignore[arg-type]
    vm.breakpoints.clear()
    vm.resume()
    for call in (cpu.show, cpu.disassemble):
        with pytest.raises(StateError, match="running"):
            call()


# --- without a guest --------------------------------------------------------------------------------------


def code(mode: str, data: str, at: int = 0x1000, count: int = 9) -> Listing:
    raw = bytes.fromhex(data)

    def read(address: int, size: int) -> bytes:
        return raw[max(address - 0x1000, 0) :][:size] if address >= 0x1000 else b""

    return disassemble(mode, at, count, 0x1002, read, None)


@pytest.mark.parametrize(
    ("mode", "data", "texts"),
    [
        ("x86-64", "48c7c001000000 90", ["mov rax, 1", "nop"]),
        ("x86-32", "b801000000 90", ["mov eax, 1", "nop"]),
        ("x86-16", "b80100 90", ["mov ax, 1", "nop"]),
        ("x86-64", "06 90", ["(no instruction)", "nop"]),  # PUSH ES, which 64-bit mode has not
        ("x86-64", "48c7", ["(no instruction)", "(no instruction)"]),
        ("arm64", "1f2003d5 ffffffff", ["nop", "(no instruction)"]),
        ("riscv64", "0100 13000000", ["c.nop", "nop"]),
        ("riscv32", "0100 13000000", ["c.nop", "nop"]),
        ("riscv64", "ffffffff", ["(no instruction)", "(no instruction)"]),
    ],
)
def test_modes_and_what_is_no_instruction(mode: str, data: str, texts: list[str]) -> None:
    require_module("capstone")
    found = code(mode, data)
    assert [one.text for one in found] == texts
    assert b"".join(one.bytes for one in found) == bytes.fromhex(data)
    assert found.note.startswith("nothing is mapped at")


def test_without_capstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    found = code("arm64", "1f2003d5 00000000")
    assert [one.bytes.hex() for one in found] == ["1f2003d5", "00000000"]
    assert "pip install 'vmlab[symbols]'" in repr(found)


def test_what_stands_before_is_shown_where_it_is_known() -> None:
    require_module("capstone")
    data = bytes.fromhex("b801000000" * 8)

    class Names:
        def function(self, pc: int | None) -> str:
            return f"f+{(pc or 0) - 0x1000:#x}"

        def source(self, pc: int | None) -> str:
            return ""

    def read(address: int, size: int) -> bytes:
        return data[address - 0x1000 :][:size]

    found = around("x86-64", 0x100F, 2, 3, read, Names())
    assert [one.address for one in found] == [0x1005, 0x100A, 0x100F, 0x1014, 0x1019]
    assert [one.here for one in found] == [False, False, True, False, False]
    assert [one.address for one in around("x86-64", 0x100F, 2, 2, read, None)] == [0x100F, 0x1014]
    # not at an instruction's beginning, as symbols have it
    assert around("x86-64", 0x1011, 2, 1, read, Names())[0].address == 0x1011


@pytest.mark.parametrize(
    ("regs", "mode"),
    [
        ({"efer": 0x500, "cr0": 0x8000_0011}, "x86-64"),
        ({"efer": 0, "cr0": 0x11}, "x86-32"),
        ({"efer": 0, "cr0": 0x10}, "x86-16"),
    ],
)
def test_the_mode_of_an_x86_cpu(regs: dict[str, int], mode: str) -> None:
    assert machine("x86_64").code_mode(regs) == mode
    assert machine("riscv32").code_mode(regs) == "riscv32"
