"""Every way in which a guest reaches a device, and every way in which it ends."""

from __future__ import annotations

import pytest

from tests.engine.kvm import guests
from tests.engine.kvm.guests import MMIO
from tests.engine.kvm.rig import Rig, rig
from tests.waiting import until
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.errors import EngineError

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("no_leaks")]

RAX = 0x8877665544332211


def test_mmio_of_every_size_unaligned_and_across_a_page() -> None:
    with rig() as r:
        r.mmio.answer = lambda address, size: (address + size) & 0xFF
        r.run(guests.SIZES, guests.long_mode(r.memory))
        writes = [entry[1:] for entry in r.mmio.log if entry[0] == "w"]
        assert writes == [
            (MMIO, 1, 0x11),
            (MMIO + 2, 2, 0x2211),
            (MMIO + 4, 4, 0x44332211),
            (MMIO + 8, 8, RAX),
            (MMIO + 0x11, 4, 0x44332211),
            (MMIO + 0xFFD, 2, 0x2211),
            (MMIO + 0xFFF, 1, 0x33),
            (MMIO + 0x1000, 4, 0x77665544),
            (MMIO + 0x1004, 1, 0x88),
        ]
        regs = r.engine.get_regs()
        assert regs["rcx"] & 0xFF == 0x01
        assert regs["rdx"] & 0xFFFF == 0x04
        assert (regs["rsi"], regs["rdi"], regs["r8"]) == (0x08, 0x10, 0x15)
        assert regs["r9"] == 0x05_00_00_00_04_00_00_FF
        assert r.engine.exits["mmio"] == 14


def test_ports_single_and_repeated() -> None:
    with rig() as r:
        answers = iter(range(1, 100))
        r.ports.answer = lambda port, size: next(answers)
        r.memory.write(guests.DATA, b"hello" + bytes(range(8)))
        r.run(guests.PORTS)
        out = [entry[1:] for entry in r.ports.log if entry[0] == "w"]
        assert out == [
            (0x80, 1, 0x11),
            (0x510, 2, 0x2211),
            (0x510, 4, 0x44332211),
            *((0x510, 1, byte) for byte in b"hello"),
            (0x510, 4, 0x03020100),
            (0x510, 4, 0x07060504),
            (guests.DONE, 1, 3),
        ]
        reads = [entry[1:3] for entry in r.ports.log if entry[0] == "r"]
        assert reads == [(0x80, 1), (0x510, 2), (0x510, 4), *[(0x510, 1)] * 5, *[(0x510, 2)] * 3]
        assert r.memory.read(0x4000, 11) == bytes([4, 5, 6, 7, 8, 9, 0, 10, 0, 11, 0])


def test_real_mode_starts_at_its_base() -> None:
    code = bytes.fromhex("0e 58 e7 e8 e6 f4 eb fe")  # push cs; pop ax; out 0xe8,ax; out 0xf4,al
    with rig() as r:
        r.memory.write(0x2_0010, code)
        r.engine.load(CpuState("real", 0x2_0010, {"rsp": 0x8000}))
        assert r.engine.get_regs()["rip"] == 0x10
        r.engine.start()
        assert r.done.wait(5)
        assert r.ports.values("w", 0xE8) == [0x2000]


def test_start_state_of_long_mode() -> None:
    with rig() as r:
        state = guests.long_mode(r.memory)
        r.memory.write(0x500, bytes(32))
        r.load(guests.COUNT, CpuState("long", guests.CODE, {"r15": 7}, state.cr3, (0x500, 31)))
        regs = r.engine.get_regs()
        assert (regs["cs"], regs["ds"], regs["cr3"], regs["r15"]) == (0x10, 0x18, 0x9000, 7)
        assert regs["efer"] & 0x500 == 0x500
        assert regs["cr0"] & 0x8000_0001 == 0x8000_0001


def _stopped(r: Rig, code: bytes) -> str:
    r.load(code)
    r.engine.start()
    assert r.stopped.wait(5)
    r.engine.pause()
    ((cpu, stop),) = r.stops
    assert cpu == 0
    if "does not tell where" not in stop.text:
        assert stop.registers["rbx"] == MMIO
    with pytest.raises(EngineError, match="cannot go on"):
        r.engine.step()
    with pytest.raises(EngineError, match="after a load"):
        r.engine.set_regs(0, {"rax": 1})
    assert r.engine.get_regs() == stop.registers
    return f"{stop.kind}: {stop.text}"


def test_triple_fault_and_life_after_it() -> None:
    with rig() as r:
        text = _stopped(r, guests.FAULT)
        assert text.startswith("shutdown: the guest triple-faulted; vCPU 0")
        r.load(guests.COUNT)
        r.engine.resume()
        until_writes(r, 10)


def until_writes(r: Rig, count: int) -> None:
    until(lambda: len(r.mmio.log) >= count)


def test_code_that_is_not_in_memory() -> None:
    with rig() as r:
        text = _stopped(r, guests.FETCH)
        assert text.startswith("internal-error: KVM internal error, suberror ")
        assert "at rip 0xd0000000, code not in memory" in text


def test_a_bus_that_raises_is_an_engine_error(caplog: pytest.LogCaptureFixture) -> None:
    def bad(address: int, size: int) -> int:
        raise ZeroDivisionError("oops")

    with rig() as r:
        r.mmio.answer = bad
        text = _stopped(r, guests.ECHO)
        assert text.startswith(
            "engine-error: ZeroDivisionError in the handling of an access: oops;"
        )
        assert "code 8b 43 04 89 03" in text
    assert "oops" in caplog.text


def test_loading_twice_starts_from_nothing() -> None:
    """Everything the guest left behind is gone: registers, controllers, and the access under way."""
    with rig() as r:
        r.load(guests.COUNT)
        r.engine.start()
        until_writes(r, 100)
        r.engine.pause()
        r.mmio.log.clear()
        for _ in range(3):
            r.load(guests.COUNT)
            assert r.engine.get_regs()["rax"] == RAX
            assert r.engine.get_regs()["rip"] == guests.CODE
        r.engine.resume()
        until_writes(r, 3)
        assert r.mmio.values("w", MMIO)[:3] == [0x44332212, 0x44332213, 0x44332214]
