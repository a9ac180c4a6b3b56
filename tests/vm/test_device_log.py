"""`vm.log`: what a device prints is never lost, and never too much."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vms import FIRST, monitor
from vmlab import VM, Device, Registers, bit, on_read, on_write, ro, rw
from vmlab.errors import DeviceFault
from vmlab.monitor.sayings import SAID, WAITING, Sayings, Teller, speaker
from vmlab.monitor.wire import Saying, pack
from vmlab.virtio import Rng
from vmlab.vm.device_log import BURST, KEPT, TEXT, DeviceLog, LogEntry, Spout, entry_of

pytestmark = pytest.mark.usefixtures("no_leaks")


class Chatty(Device):
    class regs(Registers):
        A = ro(0x00, "prints")
        B = rw(0x04, "asks", ODD=bit(31, modelled=False))
        C = rw(0x08, "prints so many lines")

    @on_read("A")
    def a(self) -> int:
        print("one", 2, "three")
        print("two\nlines")
        print()
        print("no end", end="")
        return 1

    @on_write("B")
    def b(self, value: int) -> None:
        if value == 1:
            breakpoint()
        if value == 2:
            input("how many? ")
        if value == 3:
            import pdb

            pdb.set_trace()

    @on_write("C")
    def c(self, value: int) -> None:
        for number in range(value):
            print("line", number)


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with monitor(engine) as machine:
        machine.hot_add(Chatty())
        yield machine


def settled(vm: VM, count: int) -> list[LogEntry]:
    vm.wait_until(lambda v: len(v.log) >= count, 20)
    return list(vm.log)


def test_one_print_is_one_entry(vm: VM, capfd: pytest.CaptureFixture[str]) -> None:
    vm.console.send(f"peek {FIRST:#x}\n")  # nobody waits for it, as when no cell runs
    entries = settled(vm, 3)
    assert [one.text for one in entries] == ["one 2 three", "two\nlines", "no end"]
    assert {(one.device, one.kind) for one in entries} == {("chatty0", "print")}
    assert 0 <= entries[0].time <= entries[-1].time < 60
    assert capfd.readouterr().out == "one 2 three\ntwo\nlines\n\nno end"


def test_it_reads_as_a_table(vm: VM) -> None:
    assert "nothing" in repr(vm.log)
    vm.console.run(f"peek {FIRST:#x}", timeout=20)
    settled(vm, 3)
    lines = repr(vm.log).splitlines()
    assert lines[0].split() == ["seconds", "device", "kind", "text"]
    assert lines[1].split()[1:] == ["chatty0", "print", "one", "2", "three"]
    assert lines[3].strip() == "lines"
    assert vm.log[0].text == "one 2 three"
    assert [one.text for one in vm.log[-1:]] == ["no end"]


def test_mistakes_and_faults_are_in_it(vm: VM) -> None:
    vm.console.run(f"poke {FIRST + 4:#x} 0x80000000", timeout=20)
    (mistake,) = settled(vm, 1)
    assert (mistake.kind, mistake.device) == ("mistake", "chatty0")
    assert "not modelled" in mistake.text
    with pytest.raises(DeviceFault):
        vm.console.run(f"poke {FIRST + 4:#x} 1", timeout=20)
    (fault,) = vm.log.of("chatty0", kind="fault")
    assert "breakpoint()" in fault.text
    assert "in b" in fault.text  # the line of the author
    assert len(vm.log.of(kind="mistake")) == 1


@pytest.mark.parametrize(("value", "what"), [(1, "breakpoint()"), (2, "input()"), (3, "input()")])
def test_a_debugger_and_a_question_say_what_to_use(vm: VM, value: int, what: str) -> None:
    with pytest.raises(DeviceFault, match="isolate=False") as caught:
        vm.console.run(f"poke {FIRST + 4:#x} {value}", timeout=20)
    assert what in str(caught.value)


def test_it_stays_after_the_end_and_across_a_restart(engine: str) -> None:
    with monitor(engine) as machine:
        machine.hot_add(Chatty())
        machine.console.run(f"peek {FIRST:#x}", timeout=20)
    assert machine.log[0].text == "one 2 three"
    with machine.start():
        assert machine.log[0].text == "one 2 three"


def test_a_flood_is_bounded_and_counted(vm: VM) -> None:
    vm.console.run(f"poke {FIRST + 8:#x} 20000", timeout=60)
    vm.wait_until(lambda v: len(v.log) and v.log[-1].text == "line 19999", 20)
    assert len(vm.log) <= KEPT
    assert vm.log.total == 20_000


def test_the_monitors_side_is_bounded() -> None:
    sayings = Sayings()
    for number in range(3 * WAITING):
        sayings.add(Saying(0.0, "", "print", str(number)))
    (said,) = sayings.take()
    assert (len(said.sayings), said.lost) == (WAITING, 2 * WAITING)
    assert said.sayings[-1].text == str(3 * WAITING - 1)
    assert sayings.take() == []
    for _ in range(20):
        sayings.add(Saying(0.0, "", "print", "\U0001f3b2" * SAID))
    (said,) = sayings.take()
    assert len(said.sayings) == 3
    assert pack(said), "it fits the wire"


def test_two_threads_do_not_mix_their_lines() -> None:
    said: list[str] = []
    teller = Teller(lambda device, text: said.append(text), lambda: "")
    teller.write("a ")
    other = threading.Thread(target=lambda: print("b", "c", file=teller))
    other.start()
    other.join()
    teller.write("d\n")
    assert said == ["b c\n", "a d\n"]


def test_a_line_without_an_end_is_sent_in_a_moment() -> None:
    said: list[str] = []
    teller = Teller(lambda device, text: said.append(text), lambda: "")
    print("50 %", end="", file=teller)
    teller.settle()
    assert said == []
    assert teller.waiting
    time.sleep(0.3)
    teller.settle()
    assert said == ["50 %"]
    print(".", end="", flush=True, file=teller)
    teller.write("\udcff" * 3 + "\n")
    assert said[1:] == [".", "\\udcff" * 3 + "\n"]
    teller.write("x" * (2 * SAID + 1))
    assert [len(one) for one in said[3:]] == [SAID, SAID, 1]


def test_whose_code_it_is() -> None:
    class Asking(Chatty):
        def ask(self) -> str:
            return (lambda: speaker([("com1", Chatty()), ("it", self)]))()

    assert Asking().ask() == "it"
    assert speaker([("rng0", Rng())]) == ""


def test_entries_are_bounded() -> None:
    entry = entry_of(5.0, 4.0, "a", "print", "x" * (TEXT + 10) + "\n")
    assert entry.time == 0
    assert entry.text.endswith("(10 more characters)")
    log = DeviceLog()
    for number in range(KEPT + 5):
        log.add(LogEntry(0.0, "", "print", str(number)))
    assert len(log) == KEPT
    assert "1,965" in repr(log) or "earlier" in repr(log)
    log.clear()
    assert list(log) == []


def test_a_page_is_given_what_it_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    spout = Spout(lambda: now)
    for _ in range(3 * BURST[0]):
        spout.say("line\n", limited=True)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == BURST[0] + 1
    assert "vm.log" in out[-1]
    now = 10.0
    spout.say("later\n", limited=True)
    assert capsys.readouterr().out == "later\n"
    for _ in range(2 * BURST[0]):
        spout.say("line\n", limited=False)
    assert len(capsys.readouterr().out.splitlines()) == 2 * BURST[0]


def test_a_script_prints_to_its_output(tmp_path: Path, engine: str) -> None:
    with monitor(engine, isolate=False) as machine:
        machine.hot_add(Chatty())
        machine.console.run(f"poke {FIRST + 4:#x} 0x80000000", timeout=20)
        assert [one.kind for one in machine.log] == ["mistake"]
