"""The engine on a made-up host: every call that can fail does, and every exit that is rare happens."""

from __future__ import annotations

import ctypes
import errno
import struct
import threading
from pathlib import Path

import pytest
from msgspec.structs import force_setattr

from tests.engine.kvm import guests
from tests.engine.kvm.guests import MMIO
from tests.engine.kvm.rig import Rig, rig
from tests.waiting import until
from vmlab import arch
from vmlab.core.host import HOST
from vmlab.engine.kvm import abi, available
from vmlab.engine.kvm.probe import REQUIRED
from vmlab.errors import EngineError, EngineUnavailable, VmlabError
from vmlab.testing.fake_kvm import (
    Exit,
    FakeKvm,
    FakeVcpu,
    fails,
    io_in,
    io_out,
    leaves,
    mmio_read,
    mmio_write,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


def _play(host: FakeKvm, *exits: Exit) -> Rig:
    host.script(0, *exits)
    r = Rig(1, host)
    r.load(b"")
    r.engine.start()
    return r


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.ENOENT, "does not exist: load the module"),
        (errno.ENODEV, "has no driver behind it: load the module"),
        (errno.EACCES, r"add yourself to the group kvm: sudo usermod -aG kvm \$USER"),
        (errno.EMFILE, "cannot be opened: Too many open files"),
    ],
)
def test_why_kvm_is_not_available(error: int, words: str) -> None:
    host = FakeKvm(open_error=error)
    fine, why = available(host)
    assert not fine
    with pytest.raises(EngineUnavailable, match=words) as caught:
        Rig(1, host)
    assert str(caught.value) == why
    assert not host.held


@pytest.mark.parametrize("name", REQUIRED[arch.host()])
def test_a_missing_capability_is_named(name: str) -> None:
    host = FakeKvm(missing=[REQUIRED[arch.host()][name]])
    assert available(host) == (
        False,
        f"this host's KVM lacks {name}; a newer host kernel may have it",
    )
    assert not host.held


def test_another_api_version_and_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "speaks KVM API version 11; version 12 is needed" in available(FakeKvm(api_version=11))[1]
    )
    assert available(FakeKvm())[0]
    foreign = next(one for one in REQUIRED if one != arch.host())
    assert "KVM runs guests of the host's architecture" in available(HOST, foreign)[1]
    monkeypatch.setattr("platform.machine", lambda: "ppc64le")
    assert "this host is ppc64le" in available(HOST)[1]
    monkeypatch.setattr("sys.platform", "darwin")
    assert "this host runs darwin" in available(HOST)[1]


def test_every_call_of_the_constructor_may_fail() -> None:
    plain = FakeKvm()
    Rig(2, plain).close()
    calls = len([name for name in plain.calls if name != "epoll"])
    assert calls > 25
    for number in range(1, calls + 1):
        host = FakeKvm(fail_at=number)
        with pytest.raises(VmlabError) as caught:
            Rig(2, host)
        text = str(caught.value)
        assert "Cannot allocate memory" in text, text
        assert isinstance(caught.value.__cause__, OSError)
        assert not host.held, f"{host.calls[-1]} leaks"


def test_every_call_of_a_reset_may_fail_and_the_old_vm_stays() -> None:
    def prepared(host: FakeKvm) -> Rig:
        r = Rig(2, host)
        r.engine.irq_sink(5).pulse()
        r.engine.irq_sink(6).set(True)
        r.engine.doorbell(MMIO, 4, 1, print)
        r.load(b"")
        return r

    plain = FakeKvm()
    r = prepared(plain)
    before = len(plain.calls)
    r.load(b"")
    after = len(plain.calls)
    assert plain.vms[1].lines == {6: 1}
    assert plain.vms[1].irqfds.keys() == {5}
    assert plain.vms[1].ioeventfds.keys() == {(MMIO, 4, 1)}
    r.close()
    for number in range(before + 1, after + 1):
        host = FakeKvm(fail_at=number)
        r = prepared(host)
        held = set(host.held)
        with pytest.raises(VmlabError):
            r.load(b"")
        assert host.held == held
        assert host.vms[0].irqfds.keys() == {5}
        assert host.vms[0].ioeventfds.keys() == {(MMIO, 4, 1)}
        r.load(b"")
        assert host.vms[-1].lines == {6: 1}
        assert host.vms[-1].irqfds.keys() == {5}
        r.close()
        assert not host.held


@pytest.mark.parametrize("part", ["irqfd", "doorbell", "line"])
def test_registrations_that_fail_leave_nothing(part: str) -> None:
    def act(r: Rig) -> None:
        if part == "irqfd":
            r.engine.irq_sink(5).pulse()
        elif part == "line":
            r.engine.irq_sink(5).set(True)
        else:
            r.engine.doorbell(MMIO, 4, None, print)

    plain = FakeKvm()
    r = Rig(1, plain)
    before = len(plain.calls)
    act(r)
    after = len(plain.calls)
    r.close()
    assert after > before
    for number in range(before + 1, after + 1):
        host = FakeKvm(fail_at=number)
        r = Rig(1, host)
        held, fds = set(host.held), len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(VmlabError, match="Cannot allocate memory"):
            act(r)
        pump = 2 if part == "doorbell" and host.calls[-1] in ("eventfd", "KVM_IOEVENTFD") else 0
        assert len(list(Path("/proc/self/fd").iterdir())) <= fds + pump
        assert len(host.held - held) <= 1, "the doorbell thread's wake-up, at most"
        act(r)
        r.close()
        assert not host.held


def test_scripted_accesses() -> None:
    host = FakeKvm()
    r = _play(
        host,
        mmio_write(MMIO, 8, 0x1122334455667788),
        mmio_read(MMIO, 8),
        mmio_read(MMIO + 1, 3),
        fails(errno.EAGAIN),
        leaves(abi.KVM_EXIT_IRQ_WINDOW_OPEN),
        leaves(abi.KVM_EXIT_HLT),
        leaves(abi.KVM_EXIT_INTR),
        fails(errno.EINTR),
        io_out(0x3F8, 1, b"abc"),
        io_in(0x10, 4, 2),
        io_in(0x12, 1),
    )
    r.mmio.answer = r.ports.answer = lambda address, size: address & 0xFF
    host.wait_until_played()
    (vcpu,) = host.vms[0].vcpus
    assert r.mmio.log == [
        ("w", MMIO, 8, 0x1122334455667788),
        ("r", MMIO, 8, 0),
        ("r", MMIO + 1, 2, 1),
        ("r", MMIO + 3, 1, 3),
    ]
    assert r.ports.values("w", 0x3F8) == list(b"abc")
    assert vcpu.answers == [bytes(8), bytes([1, 0, 3]), struct.pack("<II", 16, 16), bytes([18])]
    r.engine.pause()
    exits = r.engine.exits
    assert (exits["mmio"], exits["io"], exits["hlt"], exits["irq-window"]) == (3, 3, 1, 1)
    r.close()
    assert not host.held


@pytest.mark.parametrize(
    ("entry", "kind", "words"),
    [
        (leaves(abi.KVM_EXIT_SHUTDOWN), "shutdown", "triple-faulted"),
        (
            leaves(
                abi.KVM_EXIT_INTERNAL_ERROR,
                bytes(abi._RunInternal(1, 2, (ctypes.c_uint64 * 16)(7, 9))),
            ),
            "internal-error",
            "suberror 1 (an instruction that KVM cannot emulate), data [0x7, 0x9]",
        ),
        (
            leaves(abi.KVM_EXIT_FAIL_ENTRY, struct.pack("<Q", 0x80000021)),
            "fail-entry",
            "refused to enter the guest (reason 0x80000021)",
        ),
        (leaves(abi.KVM_EXIT_SYSTEM_EVENT, struct.pack("<II", 2, 0)), "system-event", "reset"),
        (leaves(abi.KVM_EXIT_UNKNOWN, struct.pack("<Q", 5)), "unknown-exit", "hardware reason 0x5"),
        (leaves(99), "unknown-exit", "KVM exit 99"),
        (fails(errno.EFAULT), "engine-error", "KVM_RUN failed: Bad address"),
    ],
)
def test_exits_that_end_a_vcpu(entry: Exit, kind: str, words: str) -> None:
    r = _play(FakeKvm(), entry)
    r.memory.write(guests.CODE, b"\x0f\x0b")
    assert r.stopped.wait(5)
    ((cpu, stop),) = r.stops
    assert (cpu, stop.kind) == (0, kind)
    assert words in stop.text
    assert "; vCPU 0 at rip 0x1000, code 0f 0b 00" in stop.text
    assert "\n" not in stop.text
    assert stop.registers["rip"] == guests.CODE
    r.close()


def test_a_shutdown_that_lost_its_registers_does_not_name_a_wrong_place() -> None:
    """AMD hosts: KVM has reset the vCPU when it tells of the shutdown."""
    host = FakeKvm()
    host.script(0, mmio_write(MMIO, 4, 1), leaves(abi.KVM_EXIT_SHUTDOWN))
    r = Rig(1, host)

    def reset(*_: object) -> None:
        (vcpu,) = host.vms[0].vcpus
        sregs = abi.Sregs()
        sregs.cs.base = 0xFFFF_0000
        vcpu.regs, vcpu.sregs = bytes(abi.Regs(rip=0xFFF0)), bytes(sregs)

    r.mmio.hook = reset
    r.load(b"")
    r.engine.start()
    assert r.stopped.wait(5)
    ((_, stop),) = r.stops
    assert stop.text == ("the guest triple-faulted; vCPU 0, this host's CPU does not tell where")
    r.close()


def test_on_stop_may_ask_and_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    host = FakeKvm()
    host.script(0, leaves(abi.KVM_EXIT_SHUTDOWN))
    seen: list[int] = []
    with rig(1, host) as r:

        def on_stop(cpu: int, stop: object) -> None:
            r.engine.request_pause()
            seen.append(r.engine.get_regs(cpu)["rip"])
            raise RuntimeError("bad hook")

        force_setattr(r.engine._config, "on_stop", on_stop)
        r.load(b"")
        r.engine.start()
        until(lambda: seen)
        r.engine.pause()
    assert seen == [guests.CODE]
    assert "bad hook" in caplog.text


def test_a_doorbell_takes_scripted_writes() -> None:
    host = FakeKvm()
    host.script(0, *[mmio_write(MMIO, 4, value) for value in (1, 2, 1)])
    total = [0]

    def ring(count: int) -> None:
        total[0] += count

    with rig(1, host) as r:
        r.engine.doorbell(MMIO, 4, 1, ring)
        r.load(b"")
        r.engine.start()
        host.wait_until_played()
        until(lambda: total[0] == 2)
        assert r.mmio.values("w", MMIO) == [2]


def test_cpuid_names_every_cpu_itself() -> None:
    host = FakeKvm()
    with rig(3, host):
        for index, vcpu in enumerate(host.vms[0].vcpus):
            table = abi.Cpuid2.from_buffer_copy(vcpu.cpuid)
            leaf = {entry.function: entry for entry in table.entries[: table.nent]}
            assert leaf[1].ebx >> 24 == index
            assert leaf[1].ebx >> 16 & 0xFF == 3
            assert leaf[1].edx >> 28 & 1
            assert leaf[1].ecx >> 31
            assert leaf[0xB].edx == index
            assert leaf[0x8000_001E].eax == index


def test_a_thread_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with rig(1, FakeKvm()) as r:
        r.load(b"")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(EngineError, match="no thread for vCPU 0: can't start new thread"):
                r.engine.start()
            with pytest.raises(VmlabError, match="can't start new thread"):
                r.engine.doorbell(MMIO, 4, None, print)
        r.engine.start()


@pytest.mark.parametrize(
    ("code", "bits64", "length"),
    [("f4", False, 1), ("f3 66 f4", False, 3), ("48 f4", True, 2), ("2e 41 f4", True, 3)],
)
def test_a_halt_is_stepped_without_kvm(code: str, bits64: bool, length: int) -> None:
    host = FakeKvm()
    with rig(1, host) as r:
        vcpu = _at(r, host, code, bits64)
        vcpu.shadow = 2
        assert r.engine.step()
        assert r.engine.get_regs()["rip"] == guests.CODE + length
        assert (vcpu.mp_state, vcpu.shadow) == (abi.KVM_MP_STATE_HALTED, 0)
        assert "KVM_SET_GUEST_DEBUG" not in host.calls
        assert not r.engine.step(), "a second HLT is not executed before an interrupt came"
        assert r.engine.get_regs()["rip"] == guests.CODE + length


@pytest.mark.parametrize("why", ["40 f4", "f0 f4", "90 f4", "ring 3", "traced"])
def test_kvm_steps_all_but_a_halt(why: str) -> None:
    host = FakeKvm()
    host.script(0, leaves(abi.KVM_EXIT_DEBUG))
    with rig(1, host) as r:
        vcpu = _at(r, host, why if "f4" in why else "f4", False)
        if why == "ring 3":
            sregs = abi.Sregs.from_buffer_copy(vcpu.sregs)
            sregs.ss.dpl = 3
            vcpu.sregs = bytes(sregs)
        elif why == "traced":
            r.engine.set_regs(0, {"rflags": 0x102})
        assert r.engine.step()
        assert vcpu.mp_state == abi.KVM_MP_STATE_RUNNABLE
        assert r.engine.get_regs()["rip"] == guests.CODE
        assert host.calls.count("KVM_SET_GUEST_DEBUG") == 2


def _at(r: Rig, host: FakeKvm, code: str, bits64: bool) -> FakeVcpu:
    state = guests.long_mode(r.memory) if bits64 else guests.PROTECTED
    r.load(bytes.fromhex(code + " f4" * 4), state)
    return host.vms[-1].vcpus[0]


def test_a_line_that_was_driven_is_pulsed_the_same_way() -> None:
    """An irqfd's edge comes late, and would pull down a line that has gone up meanwhile."""
    host = FakeKvm()
    r = Rig(1, host)
    vm, line = host.vms[0], r.engine.irq_sink(5)
    line.pulse()
    assert vm.irqfds.keys() == {5}
    line.set(True)
    assert (vm.irqfds, vm.lines) == ({}, {5: 1}), "what it had under way is done"
    host.calls.clear()
    assert line.pulse() is True
    assert (host.calls, vm.lines) == (["KVM_IRQ_LINE", "KVM_IRQ_LINE_STATUS"], {5: 1})
    line.set(False)
    line.pulse()
    assert vm.lines == {5: 0}
    r.close()
    assert not host.held


@pytest.mark.parametrize(
    ("gsi", "told"), [(5, True), (8, None), (15, True), (16, None), (23, None)]
)
def test_what_kvm_says_of_a_line_is_taken_where_it_is_true(gsi: int, told: bool | None) -> None:
    """Of the clock's line it would drop what comes while it is served; of a level that waits for its EOI it
    would say that it is lost."""
    host = FakeKvm()
    r = Rig(1, host)
    line = r.engine.irq_sink(gsi)
    assert line.set(True) is told
    assert line.set(False) is None
    assert host.vms[0].lines == {gsi: 0}
    assert ("KVM_IRQ_LINE_STATUS" in host.calls) is (told is True)
    r.close()
