"""Lines, console bytes, kicks, devices that come and go and mistakes are events of the one log."""

from __future__ import annotations

from typing import Any

import pytest

from vmlab import VM, Device, Registers, kernels
from vmlab.core.device import on_write
from vmlab.errors import ConfigError, DeviceNotFound, UnknownName
from vmlab.regs import rw
from vmlab.virtio import Console, Disk, Rng
from vmlab.vm.trace import Trace, TraceEvent

PATIENCE = 30.0
PROMPT = "vmlab> "
ARCHES = ("x86_64", "arm64", "riscv64")


class Touchy(Device):
    class regs(Registers):
        VALUE = rw(0, "one that is not to be 13")

    @on_write("VALUE")
    def value(self, value: int) -> None:
        if value == 13:
            raise ValueError("thirteen")


@pytest.fixture(params=[True, False], ids=["isolated", "local"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def monitor(engine: str = "soft", **options: Any) -> VM:
    vm = VM("monitor", engine=engine, **options).start()
    vm.console.expect(PROMPT, PATIENCE)
    return vm


def of(log: Trace, *kinds: str) -> list[TraceEvent]:
    return [event for event in log if event.kind in kinds]


def plug_and_read(vm: VM) -> Trace:
    with vm.trace() as log:
        vm.hot_add(Disk(data=b"x" * 512), id="disk0")
        vm.console.expect("hot-plug: slot .*\n", PATIENCE)
        vm.console.run("blk read 0", timeout=PATIENCE)
        vm.hot_remove("disk0")
    return log


def check_a_disks_life(log: Trace) -> None:
    times = [event.time for event in log]
    assert times == sorted(times)
    disk = [event for event in log if event.device == "disk0"]
    steps = [event.kind for event in disk if event.write is None]
    life = [kind for kind in steps if kind not in ("deliver", "ack", "eoi")]
    assert life == [
        *("added", "seen", "driver_ok", "kick", "raise", "lower"),
        *("removing", "removed"),
    ]
    kinds = [(event.kind, event.register) for event in disk]
    # what the guest did, in its order: it notifies, the line rises, it acknowledges, the line falls
    wanted = [("kick", "QueueNotify"), ("raise", ""), ("write", "InterruptACK"), ("lower", "")]
    assert [kind for kind in kinds if kind in wanted][: len(wanted)] == wanted
    [kick] = of(log, "kick")
    assert (kick.value, kick.size, kick.cpu, kick.pc) == (0, 4, None, None)
    rises, falls = ([event for event in disk if event.kind == kind] for kind in ("raise", "lower"))
    assert rises[0].line == falls[0].line is not None
    assert "raise line" in str(rises[0])


def test_a_disks_life(engine: str) -> None:
    with monitor(engine) as vm:
        check_a_disks_life(plug_and_read(vm))


@pytest.mark.parametrize("arch", ARCHES[1:])
def test_a_disks_life_on_others(arch: str) -> None:
    with monitor(arch=arch) as vm:
        log = plug_and_read(vm)
        check_a_disks_life(log)
        served = [event for event in log if event.kind in ("ack", "eoi") and event.line is not None]
        assert {"disk0"} <= {event.device for event in served}


def test_the_engine_in_software_knows_who_takes_an_interrupt() -> None:
    with monitor() as vm, vm.trace(kinds="irq") as log:
        vm.console.run("timer 1000", timeout=PATIENCE)
        line = vm.devices["timer0"].irq
    timer = [event for event in log if event.device == "timer0"]
    assert [event.kind for event in timer if event.kind != "deliver"] == [
        *("raise", "ack", "lower", "eoi"),
    ]
    assert {event.line for event in timer} == {line}
    [taken] = [event for event in timer if event.kind == "ack"]
    assert taken.cpu == 0
    assert taken.value is not None
    assert taken.value >= 32


def test_what_the_controllers_took_is_what_is_counted(engine: str) -> None:
    with monitor(engine) as vm:
        before = vm.irqs["timer0"]
        with vm.trace(kinds=("raise", "deliver"), device="timer0") as log:
            vm.console.run("timer 1000", timeout=PATIENCE)
        after = vm.irqs["timer0"]
    assert len(of(log, "raise")) == after.raised - before.raised == 1
    if after.delivered is not None and before.delivered is not None:
        assert len(of(log, "deliver")) == after.delivered - before.delivered


def test_console_bytes_are_gathered_by_line(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate) as vm, vm.trace(kinds="console") as log:
        vm.console.run("peek 0xd0000000", timeout=PATIENCE)
    [typed] = of(log, "input")
    assert (typed.device, typed.text, typed.size, typed.value) == (
        "com1",
        "peek 0xd0000000\n",
        16,
        0,
    )
    said = of(log, "output")
    assert said[0].text == "peek 0xd0000000\r\n"
    assert "".join(event.text for event in said).endswith(PROMPT)
    assert all(event.size == len(event.text) for event in said)
    assert str(said[0]).endswith("output com1 'peek 0xd0000000\\r\\n'")


def test_bytes_of_a_devices_console(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Console(), id="con0")
        vm.console.expect("hot-plug: slot .*\n", PATIENCE)
        with vm.trace(kinds="console", device="con0") as log:
            vm.console.run("con 0 send hello", timeout=PATIENCE)
            vm.tell("con0", "send", b"back\n")
        assert [(event.kind, event.value) for event in log] == [("output", 0), ("input", 0)]
        assert [event.text.strip() for event in log] == ["hello", "back"]


def test_a_users_device_is_seen_and_fails(engine: str) -> None:
    with monitor(engine) as vm:
        with vm.trace() as log:
            view = vm.hot_add(Touchy(), id="touchy0")
            vm.console.expect("hot-plug: slot .*\n", PATIENCE)
            vm.console.run(f"poke {view.base:#x} 12", timeout=PATIENCE)
            vm.console.send(f"poke {view.base:#x} 13\n")
            vm.wait_until(lambda v: v.state == "paused", PATIENCE)
            vm.hot_remove("touchy0", force=True)
        mine = [(event.kind, event.text) for event in log if event.device == "touchy0"]
        assert mine[0] == ("added", "touchy")
        [(_, words)] = [one for one in mine if one[0] == "fault"]
        assert words.endswith("(writing 0xd to VALUE): ValueError: thirteen")
        assert ("removed", "by force") in mine
        assert [kind for kind, _ in mine].count("seen") == 1


def test_a_mistake_has_its_clause(engine: str) -> None:
    with monitor(engine) as vm:
        view = vm.hot_add(Rng(notify="trap"), id="rng0")
        vm.console.expect("hot-plug: slot .*\n", PATIENCE)
        with vm.trace(kinds="mistake") as log:
            vm.console.run(f"poke {view.base + 0x50:#x} 77", timeout=PATIENCE)  # QueueNotify
        [event] = log
        assert event.device == "rng0"
        assert event.text == (
            "a notification of queue 77, which does not exist (§2.7.13.4, §4.2.3.3)"
        )
        assert str(event).endswith(f"mistake rng0: {event.text}")


def test_how_an_access_is_printed(engine: str) -> None:
    with monitor(engine) as vm:
        vm.load_symbols(kernels.path("monitor"))
        with vm.trace(device="com1", kinds="write", register="THR") as log:
            vm.console.run("peek 0xd0000000", timeout=PATIENCE)
        first = log.events[0]
        assert first.value == ord("p")
        time, cpu, function, what = str(first).split(maxsplit=3)
        assert (time, cpu) == (f"{first.time:.6f}", "cpu0")
        assert function.startswith("serial_put+0x")
        assert what == "write THR = 0x70"
        assert repr(log).endswith("  write com1.THR = 0x20")


def test_filters(engine: str) -> None:
    with monitor(engine) as vm:
        with vm.trace(device=["com1"], kinds=["write"], register=["THR"], cpu=0) as log:
            vm.console.run("peek 0xd0000000", timeout=PATIENCE)
        assert {(e.device, e.kind, e.register, e.cpu) for e in log} == {("com1", "write", "THR", 0)}
        with vm.trace(kinds="hotplug") as log:
            vm.console.run("peek 0xd0000000", timeout=PATIENCE)
        assert list(log) == []
        number = log.total
        log = vm.trace(last=20, kinds="write")
        vm.console.run("peek 0xd0000000", timeout=PATIENCE)
        assert len(log) == 20
        assert number == 0
        number = log.total
        assert log.since(number) == []
        vm.console.run("peek 0xd0000000", timeout=PATIENCE)
        assert 0 < len(log.since(number)) <= 20
        assert log.dropped > 20


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "com2"}, DeviceNotFound, "no device 'com2'; did you mean 'com1'"),
        ({"device": ["com1", "tiemr0"]}, DeviceNotFound, "did you mean 'timer0'"),
        ({"kinds": "raised"}, UnknownName, "no kind of event 'raised'; did you mean 'raise'"),
        ({"kinds": ["read", "hotplog"]}, UnknownName, "did you mean 'hotplug'"),
        ({"register": "THT"}, UnknownName, "no register 'THT'; did you mean 'THR'"),
        ({"device": "timer0", "register": "THR"}, UnknownName, "'timer0' has no register 'THR'"),
        ({"cpu": 3}, ConfigError, "no CPU 3; the machine has 1"),
        ({"cpu": -1}, ConfigError, "no CPU -1"),
        ({"cpu": "0"}, ConfigError, "cpu='0'.*a number"),
        ({"kinds": 5}, ConfigError, "kinds=5.*a name"),
        ({"register": [b"THR"]}, ConfigError, "register=.*a name"),
        ({"device": []}, ConfigError, "device=.*none is named"),
        ({"last": 0}, ConfigError, "a log of 0 events"),
    ],
)
def test_what_there_is_not(options: dict[str, Any], error: type, words: str) -> None:
    with monitor() as vm:
        log = vm.trace()
        with pytest.raises(error, match=words):
            vm.trace(**options)
        vm.console.run("peek 0xd0000000", timeout=PATIENCE)
        assert log.events, "the one that there was goes on"
