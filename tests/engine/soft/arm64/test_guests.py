"""The words of the test guests are what the assembler makes of their texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.soft.arm64 import guests
from tests.engine.soft.arm64.guest import CODE, GUESTS, Guest
from tests.engine.soft.assembling import assembled

assert guests.INTERRUPTS in GUESTS


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.text.strip().splitlines()[0][3:])
def test_words_are_the_text(guest: Guest, tmp_path: Path) -> None:
    text = f".globl _start\n_start:\n{guest.text}\n"
    assert assembled(text, CODE, tmp_path, "aarch64-linux-gnu-") == guest.code
