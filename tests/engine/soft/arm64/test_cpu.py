"""The CPU: accesses, exceptions, PSCI, code that changes, and control from outside."""

from __future__ import annotations

import struct
import time

import pytest

from tests.engine.soft.arm64 import guests
from tests.engine.soft.arm64.lab import CODE_DEVICE, DEVICE, RESULTS, WAYS, Lab, bench
from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.engine.soft.arm64 import core, native, registers
from vmlab.engine.soft.mode import Mode
from vmlab.errors import ConfigError, EngineError

CODE = guests.CODE
VALUE = 0x1122_3344_5566_7788
PARAMETER = RESULTS + 128
NOT_SUPPORTED, INVALID, ALREADY_ON = ((1 << 64) - n for n in (1, 2, 4))


@WAYS
def test_accesses_have_their_true_sizes(way: str) -> None:
    with bench(way=way) as lab:
        lab.bus.reader = lambda address, size: address * 0x0101_0101_0101_0101 & (1 << 8 * size) - 1
        lab.run(guests.ACCESSES)
        writes = [entry for entry in lab.bus.log if entry[0] == "w"]
        low = VALUE & 0xFFFF_FFFF
        assert writes == [
            ("w", DEVICE, 1, 0x88),
            ("w", DEVICE + 2, 2, 0x7788),
            ("w", DEVICE + 4, 4, low),
            ("w", DEVICE + 8, 8, VALUE),
            ("w", DEVICE + 16, 4, low),
            ("w", DEVICE + 20, 4, low),
            ("w", DEVICE + 33, 4, low),
        ]
        reads = [entry[1:3] for entry in lab.bus.log if entry[0] == "r"]
        offsets = [(0, 1), (2, 2), (4, 4), (8, 8), (1, 1), (33, 4), (16, 4), (20, 4)]
        assert reads == [(DEVICE + offset, size) for offset, size in offsets]
        # and the one that ends the guest
        assert lab.engine.exits["mmio"] == len(lab.bus.log) + 1


@WAYS
def test_exceptions(way: str) -> None:
    with bench(way=way) as lab:
        lab.run(guests.FAULTS)
        raw = lab.memory.read(RESULTS, 48 * 9)
        rows = [struct.unpack_from("<6Q", raw, 48 * n) for n in range(9)]
        seen = [(at & 0x7FF, esr) for at, esr, _, _, _, _ in rows]
        assert seen == [
            (0x200, 0x5600_0123),
            (0x200, 0xF200_0007),
            (0x200, 0x0200_0000),
            (0x200, 0x9600_0021),
            (0x200, 0x0200_0000),
            (0x200, 0x9600_0005),
            (0x200, 0x9600_0045),
            (0x400, 0x5600_0001),
            (0, 0),
        ]
        assert [rows[n][3] for n in (3, 5, 6)] == [0x8004_0801, 0x4000_1238, 0x4000_1238]
        assert {row[4] & 0x3CF for row in rows[:7]} == {0x3C5}
        # of EL0: its state, and EL1's own stack
        assert rows[7][4] & 0x3CF == 0x40
        assert rows[7][5] == 0x8008_0000
        assert not lab.stops


@WAYS
@pytest.mark.parametrize(
    ("function", "arguments", "answer"),
    [
        (0x8400_0000, (0, 0), 0x1_0001),
        (0x8000_0000, (0, 0), 0x1_0001),
        (0x8400_000A, (0xC400_0003, 0), 0),
        (0x8400_000A, (0xC400_0001, 0), 0),
        (0x8400_000A, (0x8400_0005, 0), NOT_SUPPORTED),
        (0xC400_0003, (0, CODE), ALREADY_ON),
        (0xC400_0003, (9, CODE), INVALID),
        (0xC400_0004, (0, 0), 0),
        (0x8400_0006, (0, 0), 2),
        (0x1234_5678, (0, 0), NOT_SUPPORTED),
    ],
)
def test_psci(way: str, function: int, arguments: tuple[int, int], answer: int) -> None:
    with bench(way=way) as lab:
        lab.write(PARAMETER, function, *arguments)
        lab.run(guests.POWER)
        assert lab.results(1) == [answer]


@WAYS
@pytest.mark.parametrize("function", [0x8400_0001, 0xC400_0001])
def test_a_suspended_cpu_waits_for_an_interrupt(way: str, function: int) -> None:
    with bench(way=way) as lab:
        lab.write(RESULTS, 1)
        lab.write(PARAMETER, function, 1 << 16, CODE)
        lab.start(guests.POWER)
        (cpu,) = lab.engine._vcpus
        lab.wait_for(lambda: cpu.mode is Mode.HALTED)
        with lab.engine._gic.lock:
            gic = lab.engine._gic.gic
            gic.forwards = gic.interfaces[0].enabled = 1
            gic.interfaces[0].mask = 0xFF
            gic.shared.enabled = gic.aimed[0] = 1 << 40
        assert not lab.exited.is_set()
        lab.engine.irq_sink(40).set(True)
        lab.finish()
        assert lab.results(1) == [0]


@WAYS
@pytest.mark.parametrize(
    ("function", "event"), [(0x8400_0008, "power-off"), (0x8400_0009, "reset")]
)
def test_system_events(way: str, function: int, event: str) -> None:
    with bench(way=way) as lab:
        lab.write(PARAMETER, function, 0, 0)
        lab.run(guests.POWER)
        ((cpu, stop),) = lab.stops
        assert (cpu, stop.kind) == (0, event)
        assert stop.text.startswith(f"the guest asked for it: {event} (PSCI)")
        # the firmware is asked once: what it has stopped stays so
        lab.engine.resume()
        lab.engine.pause()
        assert len(lab.stops) == 1


@WAYS
@pytest.mark.parametrize("how", [0, 1, 2], ids=["in place", "through an alias", "by a device"])
def test_code_that_is_written_anew_is_run_as_it_is(way: str, how: int) -> None:
    turns = 300
    with bench(way=way) as lab:
        written = [0]

        def on_write(address: int, _size: int, value: int) -> None:
            if address == CODE_DEVICE:
                written[0] += 1
                lab.memory.write(0x8001_0000, struct.pack("<2I", value, 0xD65F_03C0))

        lab.bus.on_write = on_write
        lab.write(PARAMETER, how, turns)
        lab.run(guests.REWRITE)
        assert lab.results(2) == [turns, 0]
        assert written[0] == (turns if how == 2 else 0)


@WAYS
def test_code_that_the_host_writes_while_paused(way: str) -> None:
    # 1: add x1, x1, #1; b 1b
    with bench(way=way) as lab:
        lab.memory.write(CODE, struct.pack("<2I", 0x9100_0421, 0x17FF_FFFF))
        lab.engine.load(CpuState(CODE))
        lab.engine.start()
        time.sleep(0.02)
        assert lab.engine.pause(5)
        assert lab.engine.get_regs()["x1"] > 0
        # add x2, x2, #1
        lab.memory.write(CODE, struct.pack("<I", 0x9100_0442))
        before = lab.engine.get_regs()
        lab.engine.resume()
        time.sleep(0.02)
        assert lab.engine.pause(5)
        after = lab.engine.get_regs()
        assert after["x2"] > 0
        assert after["x1"] - before["x1"] <= 1


@WAYS
def test_one_step_is_one_instruction(way: str) -> None:
    with bench(way=way) as lab:
        # add x1, x1, #1; ldr x2, [x3]; wfi; b .
        words = (0x9100_0421, 0xF940_0062, 0xD503_207F, 0x1400_0000)
        lab.memory.write(CODE, struct.pack("<4I", *words))
        lab.engine.load(CpuState(CODE, {"x3": DEVICE}))
        for pc in (CODE + 4, CODE + 8, CODE + 12):
            assert lab.engine.step()
            assert lab.engine.get_regs()["pc"] == pc
        assert len(lab.bus.log) == 1
        assert not lab.engine.step(), "it waits, and no interrupt comes"
        assert lab.engine.get_regs()["x1"] == 1


@WAYS
def test_registers(way: str) -> None:
    with bench(cpus=2, way=way) as lab:
        lab.memory.write(CODE, struct.pack("<I", 0x1400_0000))
        lab.engine.load(CpuState(CODE, {"x0": 7}))
        values = lab.engine.get_regs()
        assert (values["x0"], values["pc"], values["pstate"]) == (7, CODE, 0x3C5)
        assert lab.engine.get_regs(1)["pc"] == 0
        lab.engine.set_regs(
            0, {"x30": 1 << 63, "sp": 0x1000, "pc": CODE + 4, "pstate": 0x8000_03C5}
        )
        values = lab.engine.get_regs()
        assert (values["x30"], values["sp"], values["pc"]) == (1 << 63, 0x1000, CODE + 4)
        assert values["pstate"] == 0x8000_03C5
        assert lab.engine.get_regs(1)["x30"] == 0
        with pytest.raises(EngineError, match="cannot set rax"):
            lab.engine.set_regs(0, {"rax": 1})


def test_pausing_tears_no_access() -> None:
    """A counter in memory and one in a register go up together, however often the CPU is stopped."""
    # 1: ldr x0, [x3]; add x0, x0, #1; str x0, [x3]; add x1, x1, #1; str w1, [x4]; b 1b
    words = (0xF940_0060, 0x9100_0400, 0xF900_0060, 0x9100_0421, 0xB900_0081, 0x17FF_FFFB)
    with bench() as lab:
        lab.memory.write(CODE, struct.pack("<6I", *words))
        lab.engine.load(CpuState(CODE, {"x3": RESULTS, "x4": DEVICE}))
        lab.engine.start()
        for _ in range(300):
            assert lab.engine.pause(5)
            lab.engine.resume()
        assert lab.engine.pause(5)
        values, turns = lab.engine.get_regs(), len(lab.bus.log)
        assert [value for _, _, _, value in lab.bus.log] == list(range(1, turns + 1))
        assert lab.results(1) == [values["x0"]]
        assert values["x1"] - turns in (0, 1)


def test_a_failure_of_a_device_is_reported() -> None:
    def fails(_address: int, _size: int) -> int:
        raise RuntimeError("broken device")

    with bench() as lab:
        lab.bus.reader = fails
        lab.run(guests.ACCESSES)
        ((_, stop),) = lab.stops
        assert stop.kind == "engine-error"
        assert "broken device" in stop.text
        assert f"pc={stop.registers['pc']:#x}" in stop.text


def test_limits() -> None:
    with bench() as lab:
        for line in (31, 192, -1):
            with pytest.raises(ConfigError, match="32 to 191"):
                lab.engine.irq_sink(line)
    for cpus, gic, match in ((9, 2, "1 to 8"), (0, 3, "1 to 8"), (1, 4, "no GIC version 4")):
        with pytest.raises(ConfigError, match=match):
            Lab(cpus, gic, way="native", exact=True)


def test_a_library_that_is_another_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as lab:
        assert type(lab.engine._processor.core) is native.NativeCore
    assert native._known(registers.new_cpu())
    monkeypatch.setattr(native, "_VERSION", 0)
    assert not native._known(registers.new_cpu())
    monkeypatch.setattr(native, "usable", lambda: False)
    with bench() as lab:
        assert type(lab.engine._processor.core) is core.Core
        lab.run(guests.ACCESSES)
        assert not lab.stops


@pytest.mark.parametrize("name", ["_ENV", "_ICOUNT", "_WATCHPOINTS", "_X", "_PC"])
def test_a_structure_that_has_moved(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert native.usable()
    monkeypatch.setattr(native, name, getattr(native, name) + 8)
    assert not native._known(registers.new_cpu())
