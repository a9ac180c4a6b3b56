"""The life of a machine: start, pause, resume, step, reset, stop, in every order."""

from __future__ import annotations

import gc
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from tests.support import ROOT
from tests.vms import PATIENCE, PROMPT, after, monitor, peeked
from tests.waiting import alive, until
from vmlab import VM
from vmlab.errors import ConfigError, EngineError, MonitorLost, StateError

pytestmark = pytest.mark.usefixtures("no_leaks")

#: mov eax, 0x11; inc eax; inc ebx; out 0xe9, al; hlt; jmp back to hlt
CODE = bytes.fromhex("b811000000 ffc0 ffc3 e6e9 f4 ebfd")
CODE_AT = 0x30_0000


@pytest.fixture(params=[True, False], ids=["isolated", "local"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_hello_says_hello_and_ends(engine: str, isolate: bool) -> None:
    with VM(kernel="hello", engine=engine, isolate=isolate, cmdline="exit=3") as vm:
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert (ended.reason, ended.code) == ("debug-exit", 7)
        assert vm.state == "stopped"
        assert vm.state.reason == "the guest exited with status 7"
        assert vm.console.text.startswith("Hello from the guest!\n")
        assert vm.wait(0) is ended or vm.wait(0) == ended
    assert vm.exit == ended


def test_pause_and_resume(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.pause()
        assert vm.state == "paused"
        vm.pause()
        regs = vm.cpus[0].regs
        assert regs["rip"] >= 0x10_0000
        assert regs["cr0"] & 1
        assert {f"r{n}" for n in range(8, 16)} <= regs.keys()
        assert regs == vm.cpus[0].regs
        assert "rip" in repr(vm.cpus[0])
        with pytest.raises(StateError, match=r"paused.*resume\(\) it"):
            vm.console.expect("anything", timeout=1)
        vm.resume()
        vm.resume()
        assert vm.state == "running"
        assert vm.console.run("peek 0x300000", timeout=PATIENCE).startswith("0x00300000")


def test_pause_while_the_guest_is_busy(engine: str) -> None:
    with monitor(engine) as vm:
        vm.console.send("spin\n")
        time.sleep(0.05)
        for _ in range(20):
            began = time.monotonic()
            vm.pause()
            assert time.monotonic() - began < 2
            vm.resume()
        vm.console.send("x")
        vm.console.expect(PROMPT, PATIENCE)


def test_time_stands_still_while_paused(engine: str) -> None:
    with monitor(engine) as vm:
        vm.console.send("timer 300000\n")
        time.sleep(0.05)
        vm.pause()
        raised = {row.device: row.raised for row in vm.irqs}["timer0"]
        time.sleep(0.5)
        assert {row.device: row.raised for row in vm.irqs}["timer0"] == raised
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert {row.device: row.raised for row in vm.irqs}["timer0"] == raised + 1


def test_step_executes_one_instruction(engine: str) -> None:
    with monitor(engine) as vm:
        vm.pause()
        vm.memory.write(CODE_AT, CODE)
        vm.cpus[0].set(rip=CODE_AT, rax=0, rbx=41, rflags=2)
        seen = []
        for _ in range(4):
            vm.step()
            regs = vm.cpus[0].regs
            seen.append((regs["rip"] - CODE_AT, regs["rax"], regs["rbx"]))
        assert seen == [(5, 0x11, 41), (7, 0x12, 41), (9, 0x12, 42), (11, 0x12, 42)]
        assert vm.unmapped["port", 0xE9] == (0, 1)
        vm.cpus[0].set(rip=CODE_AT, rbx=0)
        assert vm.step(3) == 3
        assert vm.cpus[0].regs["rip"] == CODE_AT + 9
        assert vm.cpus[0].regs["rbx"] == 1
        vm.cpus[0].set(rax=-1)
        assert vm.cpus[0].regs["rax"] == (1 << 64) - 1
        assert vm.state == "paused"


def test_a_halted_cpu_has_no_step(engine: str) -> None:
    with monitor(engine) as vm:
        vm.pause()
        vm.memory.write(CODE_AT, bytes.fromhex("90 f4 90"))
        vm.cpus[0].set(rip=CODE_AT, rflags=2)
        assert vm.step(10) == 2
        assert vm.cpus[0].regs["rip"] == CODE_AT + 2
        assert vm.step() == 0


def test_a_step_of_a_repeated_instruction_returns(engine: str) -> None:
    """One element or some, never all of 2^32."""
    with monitor(engine) as vm:
        vm.pause()
        vm.memory.write(CODE_AT, bytes.fromhex("f3 6e 90"))
        vm.cpus[0].set(rip=CODE_AT, rcx=0xFFFF_FFFF, rsi=CODE_AT, rdx=0xE9, rflags=2)
        assert vm.step(3) == 3
        regs = vm.cpus[0].regs
        assert regs["rip"] == CODE_AT
        assert 0 < 0xFFFF_FFFF - regs["rcx"] == vm.unmapped["port", 0xE9][1]


@pytest.mark.parametrize("through", [False, True], ids=["write", "view"])
def test_code_is_rewritten_under_the_guest(engine: str, isolate: bool, through: bool) -> None:
    """vm.memory.write, and a view that says so; a loop of calls of what is rewritten."""
    with VM(kernel="monitor", engine=engine, isolate=isolate) as vm:
        vm.console.expect(PROMPT, PATIENCE)
        vm.pause()
        where, said = CODE_AT + 0x100, CODE_AT + 0x200
        # 1: call where; mov [said], al; jmp 1b
        call = b"\xe8" + (0x100 - 5).to_bytes(4, "little") + b"\x88\x03\xeb\xf7"
        vm.memory.write(CODE_AT, call)
        vm.memory.write(where, bytes.fromhex("b0 01 c3"))
        vm.cpus[0].set(rip=CODE_AT, rbx=said, rflags=2)
        vm.resume()
        for value in (1, 2, 3, 4):
            code = bytes((0xB0, value, 0xC3))
            if through:
                view = vm.memory.view(where, 3)
                view[:] = code
                vm.memory.wrote_through(view)
                view.release()
            else:
                vm.memory.write(where, code)
            until(
                lambda: vm.memory.read(said, 1)[0] == value,  # noqa: B023
                f"{value} is said",
                PATIENCE,
            )


def test_stepping_into_a_halt_loses_nothing(engine: str) -> None:
    """The guest that waits for its timer goes on when it is resumed."""

    def life(steps: int) -> str:
        with VM(kernel="irqlab", engine=engine, cmdline="ticks=3") as vm:
            vm.pause()
            while steps and vm.step(1000):
                steps -= 1
            vm.resume()
            assert vm.wait(PATIENCE) is not None, vm.console.text
            return vm.console.text

    assert life(100) == life(0)


def test_start_before_the_first_instruction(engine: str, isolate: bool) -> None:
    vm = VM(kernel="hello", engine=engine, isolate=isolate)
    try:
        assert vm.start(paused=True).state == "paused"
        entry = vm.cpus[0].regs["rip"]
        assert not vm.console.text
        assert not any(vm.exits.values())
        vm.pause()
        vm.step()
        assert vm.cpus[0].regs["rip"] != entry
        assert not vm.console.text
        vm.reset()
        assert vm.cpus[0].regs["rip"] == entry
        vm.resume()
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert ended.reason == "poweroff"
        assert vm.start(paused=True).state == "paused"
        assert vm.cpus[0].regs["rip"] == entry
        vm.stop()
        assert vm.state == "stopped"
    finally:
        vm.stop()


def test_a_step_into_the_end(engine: str) -> None:
    with monitor(engine) as vm:
        vm.pause()
        vm.memory.write(CODE_AT, bytes.fromhex("b003 e6f4 90 90 90"))
        vm.cpus[0].set(rip=CODE_AT, rflags=2)
        assert vm.step(100) == 2
        assert vm.state == "stopped"
        assert vm.exit is not None
        assert vm.exit.code == 7


def test_the_guests_reset(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.console.run("poke 0x300000 0x1234", timeout=PATIENCE)
        for _ in range(3):
            vm.console.send("reset\n")
            vm.console.expect("vmlab monitor", PATIENCE)
            vm.console.expect(PROMPT, PATIENCE)
            assert vm.state == "running"
        assert peeked(vm, 0x300000) == 0
        vm.pause()
        vm.resume()
        vm.console.send("exit 4\n")
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert ended.code == 9


def test_the_reset_button(engine: str) -> None:
    with monitor(engine) as vm:
        vm.console.run("poke 0x300000 0x1234", timeout=PATIENCE)
        vm.console.send("spin\n")
        vm.reset()
        vm.console.expect(PROMPT, PATIENCE)
        vm.pause()
        vm.reset()
        assert vm.state == "paused"
        assert vm.memory.read(0x300000, 4) == bytes(4)
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        vm.console.send("exit 0\n")
        vm.wait(PATIENCE)
        vm.reset()
        assert (vm.state, vm.exit) == ("paused", None)
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert peeked(vm, 0x300000) == 0


def test_a_triple_fault(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        vm.console.send("fault triple\n")
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert (vm.state, ended.reason, ended.code) == ("crashed", "triple-fault", 3)
        assert re.search(r"triple[- ]fault.*rip[= ]0x[0-9a-f]{6}", ended.text)
        assert "\n" not in ended.text
        with pytest.raises(StateError, match=r"triple[- ]fault"):
            vm.console.expect("never")
        assert vm.cpus[0].regs["rip"] >= 0
        vm.reset()
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
    assert vm.state == "stopped"


def test_stop_and_start_again(engine: str, isolate: bool) -> None:
    vm = VM(engine=engine, isolate=isolate)
    for _ in range(3):
        with vm:
            vm.console.expect(PROMPT, PATIENCE)
            assert vm.pid is not None
        assert vm.state == "stopped"
        assert vm.exit is not None
        assert vm.exit.reason == "stopped"
        vm.stop()
        assert vm.pid is None
        with pytest.raises(StateError):
            vm.pause()


def test_a_second_life_begins_with_clean_hands(engine: str) -> None:
    vm = VM(kernel="hello", engine=engine)
    for _ in range(2):
        with vm:
            vm.wait(PATIENCE)
        assert vm.traps["com1"].writes == vm.traps["com1"].registers["THR"].writes
        counted = vm.traps["com1"].writes
        assert "Hello from the guest!\n" in vm.console.text
    assert counted == vm.traps["com1"].writes


def test_wait(engine: str) -> None:
    with monitor(engine) as vm:
        began = time.monotonic()
        assert vm.wait(0.2) is None
        assert 0.15 < time.monotonic() - began < 2
        assert vm.wait(5, until=lambda: True) is None
        after(0.1, vm.console.send, "exit 0\n")
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert (ended.reason, ended.code) == ("poweroff", 0)


def test_stop_while_someone_waits(engine: str) -> None:
    with monitor(engine) as vm:
        after(0.1, vm.stop)
        ended = vm.wait(PATIENCE)
        assert ended is not None
        assert ended.reason == "stopped"
        with pytest.raises(StateError, match="stopped"):
            vm.console.expect("x")


def test_calls_from_many_threads(engine: str) -> None:
    """Whatever the order, each call returns or raises a StateError, and the machine is whole."""
    problems: list[BaseException] = []

    def work(vm: VM, calls: list[str]) -> None:
        for name in calls * 5:
            try:
                getattr(vm, name)()
            except StateError:
                pass
            except BaseException as error:  # noqa: BLE001
                problems.append(error)

    with monitor(engine) as vm:
        orders = [["pause", "resume"], ["reset", "step"], ["resume", "step", "pause"]]
        threads = [threading.Thread(target=work, args=(vm, calls)) for calls in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not problems
        vm.reset()
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)


# --- memory -----------------------------------------------------------------------------------------


def test_memory_is_one_and_the_same(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm:
        view = vm.memory.view(0x300000, 16)
        view[:4] = b"\x78\x56\x34\x12"
        assert peeked(vm, 0x300000) == 0x1234_5678
        vm.console.run("poke 0x300004 0xdeadbeef", timeout=PATIENCE)
        assert bytes(view[4:8]) == b"\xef\xbe\xad\xde"
        vm.memory.write(0x300008, b"\x55")
        assert peeked(vm, 0x300008, 1) == 0x55
        assert vm.memory.read(0x300000, 4) == bytes(view[:4])
        del view


def test_a_view_outlives_its_machine(engine: str) -> None:
    with monitor(engine) as vm:
        vm.memory.write(0x300000, b"kept")
        view = vm.memory.view(0x300000, 4)
    assert bytes(view) == b"kept"
    del view
    gc.collect()


# --- ends that nobody asked for -----------------------------------------------------------------------


def test_the_monitor_is_killed(engine: str) -> None:
    with monitor(engine) as vm:
        pid = vm.pid
        assert pid is not None
        os.kill(pid, 9)
        ended = vm.wait(5)
        assert ended is not None
        assert vm.state == "crashed"
        assert vm.state.reason == f"the monitor process {pid} was killed by SIGKILL"
        calls: list[Any] = [vm.pause, vm.resume, vm.step, vm.reset, vm.trace]
        calls += [lambda: vm.exits, lambda: vm.cpus[0].regs, lambda: vm.console.send("x")]
        calls += [lambda: vm.hot_remove("x"), vm.devices["com1"].peek]
        for call in calls:
            with pytest.raises(MonitorLost, match="SIGKILL"):
                call()
        with pytest.raises(MonitorLost, match="SIGKILL"):
            vm.console.expect("x")
        assert vm.traps["com1"].writes > 20
        assert "vmlab monitor" in vm.console.text
        vm.stop()
        assert vm.state == "crashed"
        assert vm.stats()["exit"]["reason"] == "monitor-lost"
        vm.start()
        vm.console.expect(PROMPT, PATIENCE)


def test_the_monitor_is_killed_while_a_call_waits(engine: str) -> None:
    with monitor(engine) as vm:
        assert vm.pid is not None
        after(0.2, os.kill, vm.pid, 9)
        began = time.monotonic()
        with pytest.raises((MonitorLost, StateError)):
            vm.console.expect("never", timeout=10)
        assert time.monotonic() - began < 5


def test_the_monitor_is_stopped_for_good(engine: str) -> None:
    """A process that does not react at all is killed."""
    with monitor(engine) as vm:
        assert vm.pid is not None
        os.kill(vm.pid, 19)
        began = time.monotonic()
        vm.stop()
        assert time.monotonic() - began < 8


def test_a_machine_that_nobody_holds_is_ended(engine: str, isolate: bool) -> None:
    vm = VM(engine=engine, isolate=isolate).start()
    vm.console.expect(PROMPT, PATIENCE)
    gone = weakref.ref(vm)
    del vm
    gc.collect()
    assert gone() is None


def test_a_fork_that_ends_does_not_end_the_machine(engine: str) -> None:
    with monitor(engine) as vm:
        pid = os.fork()
        if not pid:
            try:
                assert vm.connection.finalizer is not None
                vm.connection.finalizer()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert vm.state == "running"
        assert vm.console.run("peek 0x300000", timeout=PATIENCE).startswith("0x00300000")


ABANDON = """
import os, sys, time
from vmlab import VM
vm = VM(engine={engine!r}).start()
vm.console.expect("vmlab> ", 20)
{more}
print(vm.pid, os.getpid(), flush=True)
time.sleep({seconds})
"""
FORK = """
child = os.fork()
if not child:
    time.sleep(8)
    os._exit(0)
"""


@pytest.mark.parametrize("more", ["", FORK], ids=["plain", "forked"])
def test_the_notebook_is_killed(engine: str, more: str) -> None:
    code = ABANDON.format(engine=engine, more=more, seconds=60)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stdout is not None
    monitor_pid = int(process.stdout.readline().split()[0])
    assert alive(monitor_pid)
    process.kill()
    process.wait()
    until(lambda: not alive(monitor_pid), "the monitor ends with its notebook", 1)
    process.stdout.close()


@pytest.mark.parametrize("isolate", [True, False])
def test_the_interpreter_ends_without_stop(engine: str, isolate: bool) -> None:
    code = f"""
        from vmlab import VM
        vm = VM(engine={engine!r}, isolate={isolate}).start()
        vm.console.expect("vmlab> ", 20)
        vm.console.send("spin\\n")
        print(vm.pid)
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not alive(int(done.stdout))


def test_a_monitor_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(EngineError, match="cannot start the monitor process"):
        VM().start()
    assert len(os.listdir("/dev/fd")) == before


def test_no_folder_for_temporary_files_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with monitor("auto") as vm:
        os.kill(vm.pid, signal.SIGTERM)  # type: ignore[arg-type]
        vm.wait(PATIENCE)
        assert "was killed by SIGTERM" in vm.state.reason


def test_a_limit_on_the_size_of_files_is_told() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(ConfigError, match="bytes of guest memory: File too large"):
            VM(memory="16M").start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_listener_may_not_ask_the_machine(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    """It would wait for itself: it is told so, taken off, and the machine goes on."""
    with monitor(engine) as vm:
        vm.console.listen(lambda data: vm.pause())
        assert vm.console.run("peek 0x300000", timeout=PATIENCE).startswith("0x00300000")
        assert vm.state == "running"
    assert "use a thread" in caplog.text
