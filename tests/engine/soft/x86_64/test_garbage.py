"""Hostile guests: whatever is executed, nothing is raised and the engine ends in time."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.soft.lab import CODE, IDT, Lab, bench

PLAUSIBLE = [0x0F, 0x48, 0x66, 0xCD, 0xCF, 0xF4, 0xE6, 0xEC, 0xFB, 0x8E, 0xEA, 0x6D, 0xF3]


def run_briefly(lab: Lab, code: bytes, mode: str) -> None:
    lab.exited.clear()
    lab.load(code, mode, rip=CODE if mode != "real" else 0x8000)
    lab.engine.resume()
    lab.exited.wait(0.02)
    started = time.monotonic()
    lab.engine.pause()
    assert time.monotonic() - started < 2
    for _cpu, stop in lab.stops:
        assert stop.kind in ("shutdown", "internal-error"), stop.text
    lab.stops.clear()
    lab.mmio.log.clear()
    lab.ports.log.clear()
    lab.engine.get_regs()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    code=st.binary(min_size=1, max_size=200),
    mode=st.sampled_from(["long", "protected", "real"]),
)
def test_random_bytes_as_code(code: bytes, mode: str) -> None:
    with bench() as lab:
        run_briefly(lab, code, mode)


@pytest.mark.parametrize("seed", range(12))
def test_random_code_and_tables(seed: int) -> None:
    """One engine, many guests; random IDTs and plausible opcodes get further than noise."""
    chance = random.Random(seed)
    with bench() as lab:
        for _ in range(12):
            lab.memory.write(IDT, chance.randbytes(4096))
            for vector in chance.sample(range(32), 8):
                lab.gate(vector, CODE + chance.randrange(256), chance.randrange(8))
            code = bytes(
                chance.choice(PLAUSIBLE) if chance.random() < 0.4 else chance.randrange(256)
                for _ in range(256)
            )
            load_idt = bytes.fromhex("0f011c2500700000")
            run_briefly(lab, load_idt + code, chance.choice(["long", "protected"]))
