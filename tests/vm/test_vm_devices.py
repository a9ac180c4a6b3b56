"""Devices of a user's own: plugged in, replaced, failing, interrupting, counted and traced."""

from __future__ import annotations

import re
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.vms import FIRST, PATIENCE, PROMPT, Broken, Counter, Dice, monitor, peeked
from tests.waiting import until
from vmlab import VM, Device, Registers, on_read, ro, rw
from vmlab.errors import ConfigError, DeviceFault, ExpectTimeout, StateError, VmlabError

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=[True, False], ids=["isolated", "local"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_device_plugged_into_a_running_guest(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        view = vm.hot_add(Dice())
        assert (view.id, view.type, view.base, view.size, view.irq) == (
            "dice0",
            "dice",
            FIRST,
            0x1000,
            None,
        )
        assert view.traps == 0
        assert [peeked(vm, FIRST) for _ in range(8)] == [1, 2, 3, 4, 5, 6, 1, 2]
        assert view.traps == 8
        assert view.state in ("seen", "driver_ok"), "the guest's own driver may have greeted it"
        vm.console.run(f"poke {FIRST + 4:#x} 2", timeout=PATIENCE)
        assert peeked(vm, FIRST) == 1
        assert peeked(vm, FIRST) == 2
        counts = vm.traps["dice0"]
        assert (counts.reads, counts.writes, counts.bytes) == (10, 1, 44)
        assert counts.registers["ROLL"].reads == 10
        assert counts.registers["SIDES"].writes == 1
        assert view.peek("SIDES") == 2
        assert view.peek("ROLL") == 2
        assert view.traps == 11, "peek leaves no trace"
        assert [row.name for row in view.registers] == ["ROLL", "SIDES"]


def test_devices_from_the_start(engine: str) -> None:
    with monitor(engine, devices=[Dice(), Dice(), Counter()]) as vm:
        own = {id: one.base for id, one in vm.devices.items() if not one.fixed}
        assert own == {"dice0": FIRST, "dice1": FIRST + 0x1000, "counter0": FIRST + 0x2000}
        assert peeked(vm, FIRST + 0x1000) == 1


def test_removal(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Dice(), id="d")
        assert peeked(vm, FIRST) == 1
        vm.hot_remove("d", force=True)
        assert "d" not in vm.devices
        assert "d" not in vm.traps
        assert peeked(vm, FIRST) == 0xFFFF_FFFF
        assert vm.unmapped["mmio", FIRST] == (1, 0)
        assert vm.traps.unmapped == (1, 0)
        vm.console.run(f"poke {FIRST:#x} 7", timeout=PATIENCE)
        assert vm.unmapped["mmio", FIRST] == (1, 1)
        vm.hot_add(Dice(), id="d")
        assert vm.traps["d"].traps == 0
        assert peeked(vm, FIRST) == 1


class Quiet(Dice):
    wants_irq = False
    size = 0x2345


def test_a_device_without_a_line_and_of_an_odd_size(engine: str) -> None:
    with monitor(engine) as vm:
        view = vm.hot_add(Quiet())
        assert (view.irq, view.size) == (None, 0x3000)
        assert vm.hot_add(Dice()).base == FIRST + 0x3000
        assert "quiet0" not in [row.device for row in vm.irqs]
        assert "irq" not in repr(view)


def test_an_interrupt_reaches_the_guest(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        line = vm.hot_add(Counter()).irq
        for _ in range(3):
            vm.console.run(f"poke {FIRST + 4:#x} 1", timeout=PATIENCE)
            assert [row.level for row in vm.irqs if row.line == line] == [True]
            vm.console.run(f"poke {FIRST + 4:#x} 0", timeout=PATIENCE)
        [row] = [row for row in vm.irqs if row.line == line]
        assert (row.device, row.raised, row.level) == ("counter0", 3, False)
        text = vm.console.run("irqs", timeout=PATIENCE)
        assert re.search(rf"(?m)^\D*{line}\D+3\b", text), text


def test_replacement(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.hot_add(Dice(), id="d")
        peeked(vm, FIRST)

        class Better(Device):
            class regs(Registers):
                ANSWER = ro(0x00, "the answer", reset=42)

        view = vm.replace("d", Better())
        assert (view.id, view.type, view.base, view.irq) == ("d", "better", FIRST, None)
        assert peeked(vm, FIRST) == 42
        assert vm.traps["d"].registers.keys() == {"ANSWER"}
        with pytest.raises(ConfigError, match=r"0x2345"):
            vm.replace("d", Quiet())
        assert peeked(vm, FIRST) == 42


class Moody(Device):
    """What may go wrong outside of an access."""

    class regs(Registers):
        VALUE = rw(0x00, "a value")

    def __init__(self, when: str) -> None:
        self.when = when

    def attached(self) -> None:
        if self.when == "attached":
            raise OSError("no such luck")

    def peek(self, name: str | None = None) -> Any:
        if self.when == "peek":
            raise OSError("no such luck")
        return super().peek(name)

    def reset(self) -> None:
        if self.when == "reset":
            raise OSError("no such luck")
        super().reset()


def test_failures_outside_of_accesses(engine: str) -> None:
    with monitor(engine) as vm:
        with pytest.raises(VmlabError, match="no such luck") as caught:
            vm.hot_add(Moody("attached"))
        assert "attached" in str(caught.value)
        assert vm.hot_add(Dice()).base == FIRST, "the window was given back"
        vm.hot_add(Moody("peek"), id="m")
        with pytest.raises(DeviceFault, match="no such luck"):
            vm.devices["m"].peek()
        assert peeked(vm, FIRST) == 1
        vm.hot_add(Moody("reset"), id="r")
        with pytest.raises(VmlabError, match="no such luck"):
            vm.reset()
        assert (vm.state, vm.exit.reason if vm.exit else "") == ("crashed", "reset-failed")
        assert "no such luck" in vm.state.reason


@pytest.mark.parametrize("call", ["hot_add", "replace"])
def test_a_device_that_another_thread_takes_out_at_once_is_gone(
    engine: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monitor(engine) as vm:
        device = Dice()
        sent = vm.connection.copies.sent
        if call == "replace":
            vm.hot_add(Dice(), id="d")

        def and_out(id: str, *rest: Any) -> None:
            sent(id, *rest)
            thread = threading.Thread(target=vm.hot_remove, args=(id,))
            thread.start()
            thread.join()

        monkeypatch.setattr(vm.connection.copies, "sent", and_out)
        view = vm.hot_add(device, id="d") if call == "hot_add" else vm.replace("d", device)
        assert (view.id, view.type, view.state, view.traps) == ("d", Dice.type, "gone", 0)
        assert "gone" in repr(view)
        assert "d" not in vm.devices
        monkeypatch.undo()
        vm.stop()
        vm.start()
        assert "d" not in vm.devices


class Raised(Device):
    """Holds its line up until it is reset."""

    class regs(Registers):
        VALUE = rw(0x00, "a value", reset=5)

    def irq_level(self) -> bool:
        return self.r.VALUE != 5  # type: ignore[no-any-return]


class Refuses(Raised):
    """Up for ever, and raises when it is reset."""

    def reset(self) -> None:
        raise OSError("no such luck")


def test_a_reset_that_raises_keeps_no_other_device_from_its_own(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        for id, device in (("a", Raised()), ("culprit", Refuses()), ("z", Raised())):
            vm.hot_add(device, id=id)
            vm.devices[id].r.VALUE = 1
        assert all(vm.irqs[id].level for id in ("a", "culprit", "z"))
        for _ in range(2):
            with pytest.raises(VmlabError, match="no such luck"):
                vm.reset()
            assert (vm.state, vm.exit and vm.exit.reason) == ("crashed", "reset-failed")
        assert "hot_remove('culprit', force=True)" in vm.state.reason
        assert [vm.devices[id].r.VALUE for id in ("a", "z")] == [5, 5]
        assert not any(vm.irqs[id].level for id in ("a", "culprit", "z"))
        with pytest.raises(StateError, match="crashed"):
            vm.hot_remove("a")
        vm.hot_remove("culprit", force=True)
        vm.reset()
        assert vm.state == "paused"
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert peeked(vm, vm.devices["z"].base) == 5


def test_a_machine_starts_again_without_the_device_that_kept_it_from_a_reset(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Refuses(), id="culprit")
        with pytest.raises(VmlabError, match="no such luck"):
            vm.reset()
        vm.hot_remove("culprit", force=True)
        vm.start()
        vm.console.expect(PROMPT, PATIENCE)
        assert "culprit" not in vm.devices


class Leaver(Device):
    class regs(Registers):
        VALUE = ro(0x00, "leaves")

    @on_read("VALUE")
    def read_value(self) -> int:
        sys.exit("leaving")


# --- a handler that raises ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_handler_that_raises(
    engine: str, isolate: bool, write: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.hot_add(Broken(), id="b")
        vm.console.send(f"poke {FIRST:#x} 7\n" if write else f"peek {FIRST:#x}\n")
        with pytest.raises(DeviceFault) as caught:
            vm.console.expect(PROMPT + "never", PATIENCE)
        assert caught.value.device == "b"
        what = "writing 0x7 to VALUE" if write else "reading VALUE"
        assert f"device 'b' failed at {FIRST:#x} ({what})" in str(caught.value)
        assert "ZeroDivisionError: the author was tired" in str(caught.value)
        method = "write_value" if write else "read_value"
        assert method in caught.value.traceback
        assert vm.state == "paused"
        assert method in vm.state.traceback
        assert method in repr(vm.state)
        assert vm.traps["b"].traps == 0
        with pytest.raises(StateError, match="waits at a failure of 'b'"):
            vm.step()
        with pytest.raises(DeviceFault):
            vm.wait(5)
        vm.replace("b", Dice())
        assert vm.state == "paused"
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert vm.state == "running"
        assert vm.state.fault is None
        counts = vm.traps["dice0" if "dice0" in vm.traps else "b"]
        assert (counts.reads, counts.writes) == ((0, 1) if write else (1, 0)), (
            "retried exactly once"
        )
        if not write:
            assert f"{FIRST:#010x}: 0x00000001" in vm.console.text
        assert capfd.readouterr().err.count("ZeroDivisionError") == 0, "expect has told it"


def test_the_traceback_is_printed_once_by_the_next_call(
    engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Broken(), id="b")
        vm.console.send(f"peek {FIRST:#x}\n")
        until(lambda: vm.state.fault is not None, seconds=PATIENCE)
        capfd.readouterr()
        vm.devices["com1"].peek()
        told = capfd.readouterr().err
        assert "vmlab: the guest is paused: device 'b' failed" in told
        assert told.count("Traceback") == 1
        vm.devices["com1"].peek()
        assert capfd.readouterr().err == ""
        for _ in range(2):
            vm.resume()
            with pytest.raises(DeviceFault):
                vm.console.expect(PROMPT + "never", PATIENCE)
        vm.hot_remove("b", force=True)
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert f"{FIRST:#010x}: 0xffffffff" in vm.console.text


def test_a_failure_met_while_stepping(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Broken(), id="b")
        vm.pause()
        # mov ebx, 0xd0000000; mov eax, [rbx]; nop; jmp back to the nop
        vm.memory.write(0x30_0000, bytes.fromhex("bb000000d0 8b03 90 ebfd"))
        vm.cpus[0].set(rip=0x30_0000, rflags=2)
        vm.step(10)
        assert vm.state.fault is not None
        assert vm.state == "paused"
        vm.replace("b", Dice())
        vm.resume()
        time.sleep(0.1)
        vm.pause()
        assert vm.cpus[0].regs["rax"] == 1
        assert vm.traps["b"].reads == 1
        assert 0x30_0007 <= vm.cpus[0].regs["rip"] <= 0x30_0009


def test_stop_reset_and_exit_at_a_failure(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.hot_add(Broken(), id="b")
        vm.console.send(f"peek {FIRST:#x}\n")
        with pytest.raises(DeviceFault):
            vm.console.expect("never", PATIENCE)
        vm.reset()
        assert (vm.state, vm.state.fault) == ("paused", None)
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert peeked(vm, 0x300000) == 0
        vm.console.send(f"poke {FIRST:#x} 1\n")
        with pytest.raises(DeviceFault):
            vm.console.expect("never", PATIENCE)
    assert vm.state == "stopped"
    assert vm.state.fault is None


def test_a_handler_that_leaves_the_interpreter(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.hot_add(Leaver(), id="x")
        vm.console.send(f"peek {FIRST:#x}\n")
        with pytest.raises(DeviceFault, match="SystemExit: leaving"):
            vm.console.expect("never", PATIENCE)


class Stuck(Device):
    class regs(Registers):
        VALUE = ro(0x00, "never comes")

    @on_read("VALUE")
    def read_value(self) -> int:
        time.sleep(1000)
        return 0


def test_a_handler_that_never_returns(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Stuck())
        vm.console.send(f"peek {FIRST:#x}\n")
        with pytest.raises(ExpectTimeout):
            vm.console.expect("never", 0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 10


class Talker(Device):
    class regs(Registers):
        VALUE = ro(0x00, "talks")

    @on_read("VALUE")
    def read_value(self) -> int:
        print("read!", "\ud800")
        return 1


def test_what_a_device_prints_is_shown(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Talker())
        assert peeked(vm, FIRST) == 1
        vm.pause()
    assert "read!" in capfd.readouterr().out


# --- the access log -------------------------------------------------------------------------------------


def test_the_log_names_what_it_saw(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.hot_add(Dice(), id="d")
        with vm.trace(device="d", kinds="access") as log:
            vm.console.run(f"poke {FIRST + 4:#x} 20", timeout=PATIENCE)
            vm.console.run(f"peek {FIRST:#x} 4 2", timeout=PATIENCE)
            vm.console.run(f"peek {FIRST + 0x100:#x} 2", timeout=PATIENCE)
        seen = [(one.register, one.write, one.size, one.value, one.address) for one in log.events]
        assert seen == [
            ("SIDES", True, 4, 20, FIRST + 4),
            ("ROLL", False, 4, 1, FIRST),
            ("SIDES", False, 4, 20, FIRST + 4),
            ("", False, 2, 0, FIRST + 0x100),
        ]
        assert {(one.device, one.cpu, one.space) for one in log} == {("d", 0, "mmio")}
        assert [one.time for one in log] == sorted(one.time for one in log)
        assert log.dropped == 0
        assert "d.SIDES" in repr(log)
        vm.console.run(f"peek {FIRST:#x}", timeout=PATIENCE)
        assert len(log) == 4, "it is off"


def test_the_log_of_all_devices_is_bounded(engine: str) -> None:
    with monitor(engine) as vm:
        log = vm.trace(last=50)
        vm.console.run("help", timeout=PATIENCE)
        assert len(log) <= 50
        assert log.dropped > 1000
        assert {one.device for one in log} == {"com1"}
        assert {"THR", "LSR"} <= {one.register for one in log}
        vm.console.run(f"peek {FIRST:#x}", timeout=PATIENCE)
        other = vm.trace()
        vm.console.run(f"peek {FIRST + 0x4000:#x}", timeout=PATIENCE)
        assert [one.address for one in other if not one.device] == [FIRST + 0x4000]
        assert len(log) <= 50
        log.stop()
        vm.console.run("peek 0x300000", timeout=PATIENCE)
        assert other.events[-1].device == "com1", "stopping the old log leaves the new one on"


def test_a_long_log_comes_whole(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Dice(), id="d")
        vm.pause()
        # mov ecx, 60000; mov ebx, 0xd0000000; 1: mov eax, [rbx]; loop 1b; 2: hlt; jmp 2b
        code = bytes.fromhex("b960ea0000 bb000000d0 8b03 e2fc f4 ebfd")
        vm.memory.write(0x30_0000, code)
        vm.cpus[0].set(rip=0x30_0000, rflags=2)
        log = vm.trace(last=55_000, device="d")
        vm.resume()
        until(lambda: vm.traps["d"].reads >= 60_000, seconds=PATIENCE)
        assert len(log.events) == 55_000
        assert log.dropped == 5_000


def test_the_log_ends_with_the_machine(engine: str) -> None:
    with monitor(engine) as vm:
        log = vm.trace()
        vm.console.send("exit 0\n")
        vm.wait(PATIENCE)
        last = log.events[-1]
        assert (last.device, last.write, last.value) == ("power", True, 0x34)
        log.stop()
    assert log.events[-1] == last
    with monitor(engine) as vm, vm.trace() as log:
        vm.console.run("peek 0x300000", timeout=PATIENCE)
        vm.stop()
    assert log.events
    with monitor(engine) as vm:
        log = vm.trace()
        vm.console.run("peek 0x300000", timeout=PATIENCE)
        count = len(log)
    assert len(log) >= count
    log.stop()


def test_the_log_goes_on_over_a_reset(engine: str) -> None:
    with monitor(engine) as vm:
        log = vm.trace()
        vm.console.send("reset\n")
        vm.console.expect("vmlab monitor", PATIENCE)
        vm.console.expect(PROMPT, PATIENCE)
        assert ("i8042", True) in {(one.device, one.write) for one in log}
        assert log.events[-1].device == "com1"


# --- what can be seen -----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["64M", "1M", "3G", "4G"])
def test_the_address_map_has_no_gap(memory: str) -> None:
    vm = VM(memory=memory, engine="soft")
    try:
        found = vm.address_map
    except VmlabError as error:
        pytest.skip(f"this host: {error}")
    finally:
        vm.stop()
    assert found[0].start == 0
    assert all(one.end + 1 == after.start for one, after in pairwise(found))
    assert found[-1].end == (1 << 36) - 1
    size = {"64M": 64 << 20, "1M": 1 << 20, "3G": 3 << 30, "4G": 4 << 30}[memory]
    assert sum(one.size for one in found if one.kind == "ram") == size
    named = {one.name: one.start for one in found if one.kind == "mmio"}
    assert named["timer0"] == 0xCF00_0000
    assert {one.start for one in found if one.kind == "interrupt-controller"} == {
        0xFEC0_0000,
        0xFEE0_0000,
    }


def test_the_statistics(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.hot_add(Dice(), id="d")
        peeked(vm, FIRST)
        peeked(vm, FIRST + 0x8000, 1)
        vm.console.run("in 0x300 2", timeout=PATIENCE)
        running = vm.stats()
        assert running["exit"] is None
        vm.console.send("exit 1\n")
        vm.wait(PATIENCE)
        stats = vm.stats()
    assert vm.stats() == stats
    assert stats["engine"] == engine
    assert (stats["exit"]["reason"], stats["exit"]["code"]) == ("debug-exit", 3)
    assert {"engine", "exit", "map", "irqs", "devices", "unmapped", "exits"} <= stats.keys()
    assert all({"start", "end", "kind", "name"} == one.keys() for one in stats["map"])
    assert all({"line", "device", "raised"} <= one.keys() for one in stats["irqs"])
    keys = {"type", "base", "size", "irq", "reads", "writes", "bytes", "kicks", "registers"}
    assert all(keys <= one.keys() for one in stats["devices"].values())
    dice = stats["devices"]["d"]
    assert (dice["type"], dice["base"], dice["size"], dice["irq"]) == ("dice", FIRST, 0x1000, None)
    assert (dice["reads"], dice["writes"], dice["bytes"], dice["kicks"]) == (1, 0, 4, 0)
    assert dice["registers"]["ROLL"]["reads"] == 1
    assert stats["unmapped"] == {
        f"mmio:{FIRST + 0x8000:#x}": {"reads": 1, "writes": 0},
        "port:0x300": {"reads": 1, "writes": 0},
    }
    assert stats["exits"]["io"] > 50
    assert stats["exits"]["mmio"] >= 2


def test_traps_are_a_snapshot(engine: str) -> None:
    with monitor(engine) as vm:
        before = vm.traps
        vm.console.run("peek 0x300000", timeout=PATIENCE)
        now = vm.traps
        assert now["com1"].writes > before["com1"].writes
        assert now.total > before.total
        assert "com1" in repr(now)
        assert list(now) == list(vm.devices)
        with pytest.raises(KeyError):
            now["nothing"]
