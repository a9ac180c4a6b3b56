"""The bytes of the test guests are what the assembler makes of their texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.soft import code_guests, cpu_guests, fault_guests, guests
from tests.engine.soft.assembling import assembled
from tests.engine.soft.guest import GUESTS, Guest

assert cpu_guests.START is guests.START  # importing all of them fills GUESTS
assert {code_guests.ALIAS, fault_guests.FRAMES} <= set(GUESTS)


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.text.split(";")[0].strip()[:20])
def test_bytes_are_the_text(guest: Guest, tmp_path: Path) -> None:
    head = f".intel_syntax noprefix\n.code{guest.bits}\n.globl _start\n_start:\n"
    assert assembled(f"{head}{guest.text}\n", guest.origin, tmp_path) == guest.code
