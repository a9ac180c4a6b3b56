"""The words of the test guests are what the assembler makes of their texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.soft.assembling import assembled
from tests.engine.soft.riscv import guests
from tests.engine.soft.riscv.guest import CODE, GUESTS, Guest

assert guests.INTERRUPTS in GUESTS


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.text.strip().splitlines()[0][2:])
def test_words_are_the_text(guest: Guest, tmp_path: Path) -> None:
    text = f".option norelax\n.option norvc\n.globl _start\n_start:\n{guest.text}\n"
    assert assembled(text, CODE, tmp_path, "riscv64-linux-gnu-", "-march=rv64imac") == guest.code
