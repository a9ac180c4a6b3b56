"""Pause, step, park, reset, registers, SMP and the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.engine.soft import cpu_guests as c
from tests.engine.soft import guests as g
from tests.engine.soft.lab import CODE, DEVICE, RESULTS, Lab, bench
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.engine.soft import engine
from vmlab.errors import ConfigError, EngineError, StateError

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with bench() as lab:
        yield lab


def test_pause_and_resume(lab: Lab) -> None:
    lab.load(g.COUNT)
    lab.engine.start()
    for _ in range(50):
        before = lab.u64(RESULTS)
        lab.wait_for(lambda: lab.u64(RESULTS) > before)  # noqa: B023
        lab.engine.pause()
        seen = lab.u64(RESULTS)
        time.sleep(0.001)
        assert lab.u64(RESULTS) == seen
        lab.engine.resume()
    assert lab.engine.exits["intr"] == 50


def test_pause_before_the_start_and_twice(lab: Lab) -> None:
    lab.engine.pause()
    lab.load(g.COUNT)
    lab.engine.pause()
    lab.engine.start()
    lab.engine.pause()
    lab.engine.pause()
    lab.engine.resume()
    lab.engine.resume()
    before = lab.u64(RESULTS)
    lab.wait_for(lambda: lab.u64(RESULTS) > before)


def test_pause_while_halted(lab: Lab) -> None:
    lab.load(g.HALT)
    lab.engine.start()
    lab.wait_for(lambda: lab.engine.exits["hlt"] == 1)
    lab.engine.pause()
    assert lab.engine.get_regs()["rip"] == CODE + 1
    lab.engine.resume()
    time.sleep(0.01)
    assert lab.engine.exits["hlt"] == 1


def test_step_is_one_instruction(lab: Lab) -> None:
    lab.load(g.SPIN, regs={"rax": 0})
    for n in range(6):
        registers = lab.engine.get_regs()
        assert registers["rax"] == (n + 1) // 2
        assert registers["rip"] == (CODE if n % 2 == 0 else CODE + 3)
        lab.engine.step()
    lab.engine.start()
    time.sleep(0.01)
    lab.engine.pause()
    before = lab.engine.get_regs()
    lab.engine.step()
    after = lab.engine.get_regs()
    assert before["rip"] != after["rip"]
    assert 0 <= after["rax"] - before["rax"] <= 1


def test_step_does_device_accesses_and_stops_at_hlt(lab: Lab) -> None:
    lab.mmio.reader = lambda address, size: 0x77
    lab.load(g.ACCESS_AND_STORE)
    lab.engine.step()
    assert lab.mmio.log == [("r", DEVICE, 4, 0x77)]
    assert lab.engine.get_regs()["rax"] == 0x77
    lab.load(g.HALT)
    assert lab.engine.step()
    assert lab.engine.exits["hlt"] == 1
    assert not lab.engine.step(), "there was none"
    assert lab.engine.get_regs()["rip"] == CODE + 1
    assert lab.engine.exits["hlt"] == 1


def test_step_into_an_exception_and_an_interrupt(lab: Lab) -> None:
    lab.gate(0x35, CODE + 0x100)
    lab.load(g.IOAPIC)
    sink = lab.engine.irq_sink(5)
    for _ in range(60):
        lab.engine.step()
    assert lab.engine.exits["hlt"] == 1
    sink.pulse()
    lab.engine.step()
    # delivered, and the handler's first instruction done
    assert lab.u64(RESULTS) == 1
    assert CODE + 0x100 < lab.engine.get_regs()["rip"] < CODE + 0x180


def test_registers(lab: Lab) -> None:
    lab.load(g.SPIN)
    values = {"rax": 1, "rsp": 0x1234, "r15": (1 << 64) - 1, "rip": CODE + 3, "rflags": 0xAD7}
    lab.engine.set_regs(0, values)
    seen = lab.engine.get_regs()
    assert {name: seen[name] for name in values} == values
    names = {"cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4", "efer", "rbp", "r8"}
    assert names <= set(seen)
    with pytest.raises(EngineError):
        lab.engine.set_regs(0, {"cr3": 0})


def test_running_machines_keep_their_registers(lab: Lab) -> None:
    lab.load(g.COUNT)
    lab.engine.start()
    for forbidden in (
        lab.engine.get_regs,
        lab.engine.step,
        lambda: lab.engine.set_regs(0, {}),
        lambda: lab.engine.load(CpuState("real", 0)),
        lab.engine.start,
    ):
        with pytest.raises(StateError):
            forbidden()


def test_request_pause_inside_an_access(lab: Lab) -> None:
    def pausing(address: int, size: int) -> int:
        lab.engine.request_pause()
        return 5

    lab.mmio.reader = pausing
    lab.load(g.ACCESS_THEN_COUNT)
    lab.engine.start()
    for n in range(100):
        lab.wait_for(lambda: len(lab.mmio.log) == n + 1)  # noqa: B023
        lab.engine.pause()
        assert lab.u64(RESULTS) == n  # the block behind the access has not run
        assert lab.engine.get_regs()["rax"] == 5
        lab.engine.resume()


def test_park_blocks_the_access(lab: Lab) -> None:
    inside = threading.Event()
    answers: list[bool] = []
    values = [1, 2]

    def parking(address: int, size: int) -> int:
        inside.set()
        answers.append(lab.engine.park())
        return values.pop(0)

    lab.mmio.reader = parking
    lab.load(g.ACCESS_AND_STORE)
    lab.engine.start()
    assert inside.wait(5)
    lab.engine.pause()
    registers = lab.engine.get_regs()
    assert registers["rip"] == CODE
    assert lab.u64(RESULTS) == 0
    with pytest.raises(StateError):
        lab.engine.set_regs(0, {"rax": 1})
    lab.engine.resume()
    lab.wait_for(lambda: lab.u64(RESULTS + 8) > 0)
    assert lab.u64(RESULTS) == 1
    assert answers == [True]
    assert [entry[0] for entry in lab.mmio.log] == ["r", "w"]


def test_step_out_of_a_parked_access(lab: Lab) -> None:
    inside = threading.Event()

    def parking(address: int, size: int) -> int:
        inside.set()
        lab.engine.park()
        return 9

    lab.mmio.reader = parking
    lab.load(g.ACCESS_THEN_COUNT)
    lab.engine.start()
    assert inside.wait(5)
    lab.engine.pause()
    lab.engine.step()
    assert lab.engine.get_regs()["rax"] == 9
    assert lab.u64(RESULTS) == 0


def test_load_while_an_access_is_parked(lab: Lab) -> None:
    """A reset out of a broken device: nothing of the old code's block survives."""
    inside = threading.Event()

    def parking(address: int, size: int) -> int:
        inside.set()
        lab.engine.park()
        return 3

    lab.mmio.reader = parking
    lab.load(g.ACCESS_AND_STORE)
    lab.memory.write(RESULTS, bytes.fromhex("1122334455667788"))
    lab.engine.start()
    assert inside.wait(5)
    lab.engine.pause()
    lab.load(g.COUNT)
    assert lab.memory.read(RESULTS, 8) == bytes.fromhex("1122334455667788")
    assert lab.engine.get_regs()["rip"] == CODE
    assert [entry[0] for entry in lab.mmio.log] == ["r"]
    lab.memory.write(RESULTS, bytes(8))
    lab.engine.resume()
    lab.wait_for(lambda: lab.u64(RESULTS) > 1000)


def test_load_again_runs_the_new_code(lab: Lab) -> None:
    lab.run(g.EXIT)
    assert lab.code == 42
    lab.exited.clear()
    lab.load(bytes.fromhex("b007e6f4ebfe"))  # mov al,7; out 0xf4,al; jmp $
    lab.engine.resume()
    lab.finish()
    assert lab.code == 7


def test_current_cpu(lab: Lab) -> None:
    assert lab.engine.current_cpu() == 0
    with pytest.raises(StateError):
        lab.engine.park()


@pytest.fixture
def pair() -> Iterator[Lab]:
    with bench(cpus=2) as lab:
        yield lab


def test_second_cpu_starts_and_both_run_by_turns(pair: Lab) -> None:
    seen: list[int] = []
    pair.ports.write = lambda port, size, value: seen.append(pair.engine.current_cpu())  # type: ignore[assignment, method-assign]
    pair.memory.write(0xC000, c.REAL_TO_LONG.code)
    code = bytearray(c.REAL_TO_LONG.code)
    pair.memory.write(0xC000, bytes(code))
    pair.load(c.START_AP)
    pair.engine.start()
    pair.wait_for(lambda: pair.u64(RESULTS + 0x108) == 1)
    pair.wait_for(lambda: seen == [1])
    before = pair.u64(RESULTS + 0x200)
    pair.wait_for(lambda: pair.u64(RESULTS + 0x200) > before)
    pair.engine.pause()
    assert pair.engine.get_regs(1)["efer"] == 0x500
    assert pair.engine.get_regs(0)["rip"] != pair.engine.get_regs(1)["rip"]


def test_cpus_are_bounded() -> None:
    with pytest.raises(ConfigError), bench(cpus=9):
        pass


@pytest.mark.parametrize(
    "state", ["created", "loaded", "running", "paused", "halted", "parked", "stopped", "stepped"]
)
def test_close_in_every_state(state: str) -> None:
    with bench() as lab:
        guest = {"halted": g.HALT, "parked": g.MMIO, "stopped": c.TRIPLE_FAULT}.get(state, g.COUNT)
        inside = threading.Event()

        def parking(address: int, size: int) -> int:
            inside.set()
            assert lab.engine.park() is False
            return 0

        lab.mmio.reader = parking
        if state != "created":
            lab.load(guest)
        if state == "stepped":
            lab.engine.step()
        elif state not in ("created", "loaded"):
            lab.engine.start()
        if state == "paused":
            lab.engine.pause()
        if state == "parked":
            assert inside.wait(5)
        if state == "stopped":
            lab.finish()
        lab.engine.close()
        lab.engine.close()
        with pytest.raises(StateError):
            lab.engine.resume()


def test_nothing_is_left_over_many_lives() -> None:
    """Memory, threads and descriptors after 200 engines (the first ones fill caches)."""

    def life() -> None:
        with bench() as lab:
            lab.run(g.EXIT)

    for _ in range(20):
        life()
    before, threads, files = _resident(), threading.active_count(), _files()
    for _ in range(200):
        life()
    assert threading.active_count() == threads
    assert _files() == files
    # 200 forgotten instances would be over 1 GiB
    assert _resident() - before < 24 << 20


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_import_does_not_load_unicorn() -> None:
    code = (
        "import sys; from vmlab.engine.soft import available; assert 'unicorn' not in sys.modules; "
        "sys.meta_path.insert(0, type('No', (), {'find_spec': lambda *a: None})); "
        "print(available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(True, ")


def test_without_unicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    from vmlab.engine.soft import available, uclib
    from vmlab.errors import EngineUnavailable

    monkeypatch.setattr(uclib, "_path", lambda: None)
    usable, reason = available()
    assert not usable
    assert "pip install 'vmlab[soft]'" in reason
    uclib.library.cache_clear()
    with pytest.raises(EngineUnavailable), bench():
        pass


def test_a_handler_that_does_not_return_holds_close_up_for_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "JOIN", 0.2)
    entered, leave = threading.Event(), threading.Event()
    lab.mmio.reader = lambda address, size: (entered.set(), leave.wait(30), 0)[2]
    lab.load(g.ACCESS_AND_STORE)
    lab.engine.start()
    assert entered.wait(10)
    try:
        with pytest.raises(EngineError, match="vCPU 0 is stuck inside a device access"):
            lab.engine.close()
    finally:
        leave.set()
    lab.wait_for(lambda: not lab.engine._thread.is_alive())  # type: ignore[union-attr]
    lab.engine.close()


def test_a_doorbell_that_does_not_return_holds_close_up_for_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "JOIN", 0.2)
    entered, leave = threading.Event(), threading.Event()
    lab.engine.doorbell(DEVICE, 4, None, lambda count: (entered.set(), leave.wait(30))[0])
    assert lab.engine._doorbells.take(DEVICE, 4, 1)
    assert entered.wait(10)
    try:
        with pytest.raises(EngineError, match="a doorbell's handler does not return"):
            lab.engine.close()
    finally:
        leave.set()
    lab.engine.close()


def test_a_stopped_cpu_stays_stopped(lab: Lab) -> None:
    lab.run(c.TRIPLE_FAULT)
    before = lab.engine.get_regs()
    lab.engine.step()
    lab.engine.resume()
    lab.engine.pause()
    assert lab.engine.get_regs() == before
    assert len(lab.stops) == 1


def test_waiting_for_itself_is_refused(lab: Lab) -> None:
    refused: list[str] = []

    def inside(address: int, size: int) -> int:
        for call in (lab.engine.pause, lab.engine.close):
            try:
                call()
            except StateError as error:
                refused.append(str(error))
        lab.exited.set()
        return 0

    lab.mmio.reader = inside
    lab.load(g.ACCESS_AND_STORE)
    lab.engine.start()
    lab.finish()
    assert len(refused) == 2
