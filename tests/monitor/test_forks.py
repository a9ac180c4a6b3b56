"""What a device starts: copies of its process, and programs, and what becomes of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT, require_module
from tests.vms import FIRST, PATIENCE, PROMPT, monitor, peeked
from vmlab import Device, Registers, on_read, ro
from vmlab.core.device import command
from vmlab.errors import DeviceFault

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Forker(Device):
    class regs(Registers):
        FORK = ro(0x00, "the copy returns as well")
        RAISE = ro(0x04, "the copy raises")
        SPAWN = ro(0x08, "a program; its process")
        FINE = ro(0x0C, "a value", reset=5)

    @on_read("FORK")
    def fork(self) -> int:
        if os.fork() == 0:
            return 7
        return 8

    @on_read("RAISE")
    def fork_and_raise(self) -> int:
        if os.fork() == 0:
            raise ValueError("in the copy")
        return 8

    @on_read("SPAWN")
    def spawn(self) -> int:
        self.program = subprocess.Popen(["sleep", "1000"])
        return self.program.pid

    @command
    def fork_and_return(self) -> int:
        pid = os.fork()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else -1

    @command
    def fork_a_worker(self) -> int:
        def work() -> None:
            time.sleep(1000)

        self.worker = multiprocessing.get_context("fork").Process(target=work, daemon=True)
        self.worker.start()
        assert self.worker.pid is not None
        return self.worker.pid

    @command
    def wait_for_a_copy(self) -> int:
        worker = multiprocessing.get_context("fork").Process(target=sys.exit, args=(3,))
        worker.start()
        worker.join()
        assert worker.exitcode is not None
        return worker.exitcode


def processes(group: int) -> list[int]:
    """The living processes of a group."""
    psutil = require_module("psutil")
    found = []
    for one in psutil.process_iter(["pid", "status"]):
        try:
            if os.getpgid(one.pid) == group and one.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
        except ProcessLookupError:
            pass
    return found


def gone(group: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while processes(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("offset", [0, 4], ids=["returns", "raises"])
def test_a_fork_in_a_handler_ends_at_once_and_is_a_fault(engine: str, offset: int) -> None:
    with monitor(engine, devices=[Forker()]) as vm:
        assert vm.pid is not None
        with pytest.raises(DeviceFault, match=r"'forker0' failed.*Forked: .* cannot fork"):
            vm.console.run(f"peek {FIRST + offset:#x}", timeout=PATIENCE)
        assert vm.state == "paused"
        assert processes(vm.pid) == [vm.pid]
        vm.replace("forker0", Forker())
        vm.hot_remove("forker0", force=True)
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert peeked(vm, 0x1000) == 0, "the machine lives"


@pytest.mark.kvm
def test_a_fork_in_a_handler_of_this_process() -> None:
    me = os.getpid()
    with monitor("kvm", devices=[Forker()], isolate=False) as vm:
        with pytest.raises(DeviceFault, match="Forked"):
            vm.console.run(f"peek {FIRST:#x}", timeout=PATIENCE)
        assert os.getpid() == me


@pytest.mark.kvm
def test_copies_made_elsewhere_do_their_work_and_never_come_back() -> None:
    with monitor("kvm", devices=[Forker()]) as vm:
        assert vm.pid is not None
        assert vm.tell("forker0", "fork_and_return") == 1
        assert vm.tell("forker0", "wait_for_a_copy") == 3
        worker = vm.tell("forker0", "fork_a_worker")
        assert sorted(processes(vm.pid)) == sorted([vm.pid, worker])
        assert peeked(vm, FIRST + 12) == 5


def started(vm: object) -> int:
    """A machine whose device has started a program and a copy; its process."""
    peeked(vm, FIRST + 8)  # type: ignore[arg-type]
    vm.tell("forker0", "fork_a_worker")  # type: ignore[attr-defined]
    pid: int = vm.pid  # type: ignore[attr-defined]
    assert len(processes(pid)) == 3
    return pid


def test_what_a_device_started_ends_with_the_machine(engine: str) -> None:
    with monitor(engine, devices=[Forker()]) as vm:
        pid = started(vm)
    assert gone(pid)


@pytest.mark.kvm
def test_and_with_a_monitor_that_is_killed() -> None:
    with monitor("kvm", devices=[Forker()]) as vm:
        pid = started(vm)
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert "SIGKILL" in (vm.exit.text if vm.wait(PATIENCE) and vm.exit else "")


@pytest.mark.kvm
def test_and_with_a_notebook_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(
        "from tests.monitor.test_forks import *\n"
        "with monitor('kvm', devices=[Forker()]) as vm:\n"
        "    print(started(vm), flush=True)\n"
        "    time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as notebook:
        assert notebook.stdout is not None
        pid = int(notebook.stdout.readline())
        notebook.kill()
    assert gone(pid)
