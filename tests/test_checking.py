"""Checks of exercises: what they say, what they take out again, and that they come to an end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.support import kernel_image
from vmlab import VM, Device, Registers, bit, command, on_peek, on_read, on_write, ro, rw, w1c
from vmlab.core.memory import GuestMemory
from vmlab.testing import Check, DeviceHarness, Wrong
from vmlab.virtio import Rng

pytestmark = pytest.mark.usefixtures("no_leaks")


class Lamp(Device):
    class regs(Registers):
        STATUS = w1c(0x00, "what happened", LIT=bit(0))
        LIMIT = rw(0x04, "a byte", width=8, reset=9)
        SUM = ro(0x08, "one more than LIMIT")

    @command
    def light(self) -> None:
        self.r.STATUS |= 1

    @on_peek("SUM")
    def sum(self) -> int:
        return int(self.r.LIMIT) + 1

    def irq_level(self) -> bool:
        return bool(self.r.STATUS)


class Faulty(Device):
    class regs(Registers):
        A = ro(0x00, "raises")
        B = ro(0x04, "is not written yet")

    @on_read("A")
    def a(self) -> int:
        raise ValueError("no A today")

    @on_read("B")
    def b(self) -> int:
        raise NotImplementedError


def said(body: Callable[[Check], object], hint: str = "think", **options: float) -> str:
    with pytest.raises(Wrong) as caught, Check(hint=hint, **options) as check:  # type: ignore[arg-type]
        body(check)
    return str(caught.value)


def test_a_wrong_answer_says_what_was_got_and_expected(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(lambda check: check("the sum", 3, 4))
    assert text == "not yet: the sum\n  got       3\n  expected  4\n\nA hint: think"
    assert Wrong(text)._render_traceback_() == text.splitlines()
    assert not capsys.readouterr().out
    with Check() as check:
        check("the sum", 4, 4)
    assert capsys.readouterr().out == "right\n"


def test_addresses_are_shown_in_hex_and_long_values_cut() -> None:
    text = said(lambda check: check("a place", (0xD000_0000, 5), [0x1000, True]))
    assert "got       (0xd0000000, 5)\n  expected  [0x1000, True]" in text
    assert len(said(lambda check: check("much", "x" * 10_000, ""))) < 500


def test_an_answer_that_is_missing() -> None:
    def unwritten(check: Check) -> None:
        raise NotImplementedError

    assert said(unwritten).startswith("Not written yet")
    assert "\n\nA hint: think" in said(unwritten)
    words = r"There is no undefined yet: .*\n\nA hint: think"
    with pytest.raises(Wrong, match=words), Check(hint="think") as check:
        check("it", undefined(), 1)  # type: ignore[name-defined]  # noqa: F821


def test_an_error_of_the_answer_shows_its_own_line() -> None:
    """The traceback is what helps; the hint is added."""
    with pytest.raises(ZeroDivisionError) as caught, Check(hint="think") as check:
        check("it", 1 // 0, 1)
    assert caught.value.__notes__ == ["A hint: think"]


def test_errors_that_are_expected() -> None:
    with Check() as check:
        check.raises("no number", ValueError, lambda: int("x"))
    text = said(lambda check: check.raises("no number", ValueError, lambda: int("12")))
    assert "got       no error, but 12\n  expected  ValueError" in text
    text = said(lambda check: check.raises("no number", ValueError, lambda: 1 // 0))
    assert "got       ZeroDivisionError: " in text


class Slips(Device):
    class regs(Registers):
        A = ro(0x00, "raises")
        B = rw(0x04, "goes on and on")
        C = ro(0x08, "is not written yet")

    @on_read("A")
    def a(self) -> int:
        return 1 // 0

    @on_write("B")
    def b(self, value: int) -> None:
        while True:
            pass

    @on_read("C")
    def c(self) -> int:
        raise NotImplementedError


def test_what_a_device_without_a_guest_raises() -> None:
    with DeviceHarness(Slips()) as socket:
        text = said(lambda check: check.read(socket, "A"))
        assert text.startswith("not yet: your Slips raised\nTraceback")
        assert "return 1 // 0" in text
        assert "vmlab/core" not in text
        assert text.endswith(
            "ZeroDivisionError: integer division or modulo by zero\n\nA hint: think"
        )
        assert said(lambda check: check.read(socket, "C")).startswith("Not written yet")
        text = said(lambda check: check.write(socket, "B", 1), seconds=0.2)
        assert "an end within 0.2 s: it is in Slips.b, line " in text


def test_what_never_ends() -> None:
    def endless(check: Check) -> None:
        while True:
            pass

    before = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    assert "not come to an end within 0.2 s: it is in test_what_never_ends" in said(
        endless, seconds=0.2
    )
    assert time.monotonic() - start < 5
    assert signal.getsignal(signal.SIGALRM) is before
    memory = GuestMemory.allocate(1 << 20)
    assert (Check()._seconds, Check(seconds=1)._seconds) == (5, 1)
    patient = Check(hint="think").patient(memory, reads=3)
    assert [patient.read(0, 1) for _ in range(3)] == [b"\0"] * 3
    with pytest.raises(Wrong, match="no end after 3 reads"):
        patient.read(0, 1)
    memory.close()


def test_the_table_of_a_class() -> None:
    with Check() as check:
        check.table(Lamp, "STATUS 0x00 w1c", "LIMIT 0x04 rw reset 9", "SUM 0x08 ro")
    for row in ("LIMIT 0x04 rw reset 8", "LIMIT 0x04 ro reset 9", "LIMIT 0x08 rw reset 9"):
        text = said(lambda check, row=row: check.table(Lamp, row))  # type: ignore[misc]
        assert f"got       LIMIT 0x04 rw reset 9\n  expected  {row}" in text
    assert "got       no X, but STATUS, LIMIT, SUM" in said(
        lambda check: check.table(Lamp, "X 0x00 ro")
    )


def test_a_device_without_a_guest() -> None:
    with Check() as check, DeviceHarness(Lamp()) as socket:
        check.write(socket, "LIMIT", 0x1FF)
        check("SUM", check.read(socket, "SUM"), 0x100)
    with DeviceHarness(Lamp()) as socket:
        assert "no register X" in said(lambda check: check.read(socket, "X"))
        with pytest.raises(TypeError, match=r"Check\(vm\)"):
            Check().plug(Lamp())


def test_a_device_in_a_guest_is_taken_out_whatever_happens(engine: str) -> None:
    with VM(kernel=kernel_image("monitor"), engine=engine) as vm:
        vm.console.expect("vmlab> ")
        before = list(vm.devices)
        for _ in range(2):
            with Check(vm) as check:
                lamp, random = check.plug(Lamp()), check.plug(Rng(seed=1))
                check.write(lamp, "LIMIT", 3)
                check("SUM", (check.read(lamp, "SUM"), lamp.peek("SUM")), (4, 4))
                lamp.light()
                check("the line", (check.level(lamp), check.raised(lamp)), ("high", 1))
                check.write(lamp, "STATUS", 1)
                check("the line", (check.level(lamp), check.raised(lamp)), ("low", 1))
                check("the driver", random.state, "driver_ok")
                check.unplug(random)
                check("the device", random.state, "gone")
            assert list(vm.devices) == before
        with pytest.raises(Wrong), Check(vm) as check:
            check("SUM", check.read(check.plug(Lamp()), "SUM"), 0)
        assert list(vm.devices) == before
        for register, words in (
            ("A", "your device raised\n.*no A today"),
            ("B", "Not written yet"),
        ):
            with pytest.raises(Wrong, match=words), Check(vm) as check:
                check.read(check.plug(Faulty()), register)
            assert (list(vm.devices), vm.state) == (before, "running")
            assert vm.console.run("peek 0x300000") == "0x00300000: 0x00000000"


def test_a_machine_that_does_not_run() -> None:
    with VM(kernel=kernel_image("monitor")) as vm:
        vm.console.expect("vmlab> ")
        vm.pause()
        with pytest.raises(Wrong, match=r"paused\. Call its resume\(\)"), Check(vm):
            pass
    with pytest.raises(Wrong, match=r"stopped\. Call its start\(\)"), Check(vm):
        pass
