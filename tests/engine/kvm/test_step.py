"""One instruction at a time, and accesses that are the same whatever stops the guest."""

from __future__ import annotations

import time

import pytest

from tests.engine.kvm import guests
from tests.engine.kvm.guests import CODE, MMIO
from tests.engine.kvm.rig import consecutive, park_in, rig
from tests.waiting import until
from vmlab.errors import EngineError

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("no_leaks")]


def test_step_by_step() -> None:
    """Each step is one instruction: MMIO, port and repeated string accesses included."""
    with rig() as r:
        r.mmio.answer = lambda address, size: 0x55
        r.load(guests.STEPS)
        trail = []
        for _ in range(10):
            r.engine.step()
            trail.append(r.engine.get_regs()["rip"] - CODE)
        lengths = (5, 7, 10, 12, 14, 19, 24, 29)
        assert tuple(trail[:8]) == lengths
        # a repeated string instruction may take a step per element
        assert r.mmio.log == [("w", MMIO, 4, 5), ("r", MMIO + 4, 4, 0x55)]
        while r.engine.get_regs()["rip"] - CODE < 0x20:
            r.engine.step()
        assert r.engine.get_regs()["rax"] == 0x100
        assert len(r.ports.values("w", 0x510)) == 3
        r.engine.start()
        time.sleep(0.01)
        r.engine.pause()
        r.engine.step()
        assert r.engine.get_regs()["rip"] - CODE == 0x20


def test_stepping_a_running_guest_is_exact() -> None:
    with rig() as r:
        r.load(guests.COUNT)
        r.engine.start()
        until(lambda: len(r.mmio.log) > 100)
        r.engine.pause()
        for _ in range(60):
            seen, before = len(r.mmio.log), r.engine.get_regs()["rip"] - CODE
            r.engine.step()
            assert r.engine.get_regs()["rip"] - CODE == {0: 1, 1: 3, 3: 0}[before]
            assert len(r.mmio.log) - seen == (before == 1)
        r.engine.resume()
        seen = len(r.mmio.log)
        until(lambda: len(r.mmio.log) > seen + 10)
        r.engine.pause()
        assert consecutive(r.mmio.values("w", MMIO))


@pytest.mark.parametrize("guest", ["SIZES", "PORTS"])
@pytest.mark.parametrize("way", ["paused at each access", "stepped"])
def test_accesses_are_the_same_whatever_stops_the_guest(guest: str, way: str) -> None:
    """Accesses split by KVM and repeated string instructions included."""

    def life(disturbed: bool) -> list[tuple[str, int, int, int]]:
        with rig() as r:
            numbers = iter(range(10_000))
            r.mmio.answer = r.ports.answer = lambda address, size: next(numbers) & 0xFF
            log = r.mmio.log = r.ports.log

            def hook(kind: str, address: int, size: int, value: int) -> None:
                r._port(kind, address, size, value)
                r.engine.request_pause()

            r.memory.write(guests.DATA, b"hello" + bytes(range(8)))
            state = guests.long_mode(r.memory) if guest == "SIZES" else guests.PROTECTED
            code = getattr(guests, guest)
            if not disturbed:
                r.run(code, state)
                return [*log, ("m", 0, 0, int.from_bytes(r.memory.read(0x4000, 16), "little"))]
            r.load(code, state)
            if way != "stepped":
                r.mmio.hook = r.ports.hook = hook
                r.engine.start()
            deadline = time.monotonic() + 10
            while not r.done.is_set():
                assert time.monotonic() < deadline
                if way == "stepped":
                    r.engine.step()
                else:
                    r.engine.resume()
            r.engine.pause()
            return [*log, ("m", 0, 0, int.from_bytes(r.memory.read(0x4000, 16), "little"))]

    assert life(True) == life(False)


def test_step_of_a_halted_cpu_returns() -> None:
    with rig() as r:
        r.load(guests.HALT)
        started = time.monotonic()
        assert [r.engine.step() for _ in range(4)] == [True, True, False, False]
        assert time.monotonic() - started < 2
        assert r.engine.get_regs()["rip"] == CODE + 2
        r.engine.start()
        time.sleep(0.01)
        r.engine.pause()
        assert r.engine.get_regs()["rip"] == CODE + 2, "a step does not wake it"
        with pytest.raises(EngineError, match="there is no vCPU 1"):
            r.engine.step(1)


def test_a_step_into_a_parked_access() -> None:
    with rig() as r:
        r.mmio.hook = park_in(r)
        r.load(guests.COUNT)
        r.engine.step()
        r.engine.step()
        assert r.mmio.log == [("w", MMIO, 4, 0x44332212)]
        r.mmio.hook = None


@pytest.mark.parametrize("prefixes", ["", "f3", "2e66"])
def test_a_stepped_halt_ends_with_its_interrupt(prefixes: str) -> None:
    """The whole handler runs after it, device accesses included, and nothing halts twice."""
    prefix = bytes.fromhex(prefixes)
    with rig() as r:
        halt = len(guests.IRQ) - 3
        code = guests.IRQ[:halt] + prefix + b"\xf4\xeb" + bytes((0xFD - len(prefix),))
        r.memory.write(0x23 * 4, (0x3000).to_bytes(4, "little"))
        r.memory.write(0x20 * 4, (0x3100).to_bytes(4, "little"))  # the PIT's
        r.memory.write(0x3100, guests.ISR[2:])
        r.memory.write(0x3000, guests.ISR)
        line = r.engine.irq_sink(3)
        r.load(code, guests.REAL)
        while r.engine.get_regs()["rip"] != CODE + halt + len(prefix) + 1:
            assert r.engine.step()
        assert not r.engine.step(), "it waits for an interrupt"
        for count in range(1, 4):
            if count == 1:
                r.engine.start()
            else:
                r.engine.resume()
            line.pulse()
            until(lambda: len(r.ports.values("w", 0xE9)) == count)  # noqa: B023
            r.engine.pause()
            for _ in range(12):  # out of the handler, round the loop, over the next HLT
                r.engine.step()
            assert r.engine.get_regs()["rip"] == CODE + halt + len(prefix) + 1
