"""The bytes of the test guests are what the assembler makes of their texts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.soft import code_guests, cpu_guests, fault_guests, guests
from tests.engine.soft.guest import GUESTS, Guest
from tests.support import require_program

assert cpu_guests.START is guests.START  # importing all of them fills GUESTS
assert {code_guests.ALIAS, fault_guests.FRAMES} <= set(GUESTS)


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.text.split(";")[0].strip()[:20])
def test_bytes_are_the_text(guest: Guest, tmp_path: Path) -> None:
    tools = [require_program(name) for name in ("as", "ld", "objcopy")]
    source = tmp_path / "a.s"
    head = f".intel_syntax noprefix\n.code{guest.bits}\n.globl _start\n_start:\n"
    source.write_text(f"{head}{guest.text}\n")
    a_out, linked, raw = (str(tmp_path / name) for name in ("a.o", "a.elf", "a.bin"))
    subprocess.run([tools[0], "-o", a_out, str(source)], check=True)
    subprocess.run([tools[1], f"-Ttext={guest.origin:#x}", "-o", linked, a_out], check=True)
    subprocess.run([tools[2], "-O", "binary", "-j", ".text", linked, raw], check=True)
    assert Path(raw).read_bytes() == guest.code
