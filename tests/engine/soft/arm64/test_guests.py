"""The words of the test guests are what the assembler makes of their texts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.soft.arm64 import guests
from tests.engine.soft.arm64.guest import CODE, GUESTS, Guest
from tests.support import require_program

assert guests.INTERRUPTS in GUESTS


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.text.strip().splitlines()[0][3:])
def test_words_are_the_text(guest: Guest, tmp_path: Path) -> None:
    tools = [require_program(f"aarch64-linux-gnu-{name}") for name in ("as", "ld", "objcopy")]
    source = tmp_path / "a.s"
    source.write_text(f".globl _start\n_start:\n{guest.text}\n")
    a_out, linked, raw = (str(tmp_path / name) for name in ("a.o", "a.elf", "a.bin"))
    subprocess.run([tools[0], "-o", a_out, str(source)], check=True)
    subprocess.run([tools[1], f"-Ttext={CODE:#x}", "-o", linked, a_out], check=True)
    subprocess.run([tools[2], "-O", "binary", "-j", ".text", linked, raw], check=True)
    assert Path(raw).read_bytes() == guest.code
