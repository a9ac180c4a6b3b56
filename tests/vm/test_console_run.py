"""`console.run` against guests that echo, that do not, and that speak out of turn."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from vmlab.errors import ExpectTimeout
from vmlab.vm import console as module
from vmlab.vm.console import Console


def answering(*parts: str, delay: float = 0.0) -> Console:
    """A console whose guest answers whatever is typed with `parts`, one after the other."""

    def send(data: bytes) -> int:
        def speak() -> None:
            for part in parts:
                guest.feed(part.encode())
                threading.Event().wait(delay)

        threading.Thread(target=speak).start()
        return len(data)

    guest = Console(send)
    guest.feed(b"vmlab> ")
    return guest


def test_what_a_command_printed() -> None:
    guest = answering("peek 0x10\r\n0x10: 0x00\r\nvmlab> ")
    assert guest.run("peek 0x10") == "0x10: 0x00"


def test_a_command_that_prints_nothing() -> None:
    assert answering("poke 0 0\r\n", "vmlab> ").run("poke 0 0") == ""


def test_a_notice_while_the_line_is_typed() -> None:
    """The prompt that follows the notice is not the answer's."""
    guest = answering(
        "\rhot-plug: slot 0: device at ",
        "0xd0000000 irq 5\r\nvmlab> ",
        "peek 0x10\r\n",
        "0x10: 0x00\r\nvmlab> ",
        delay=0.02,
    )
    assert guest.run("peek 0x10") == "0x10: 0x00"


def test_a_notice_in_the_middle_of_the_line() -> None:
    guest = answering(
        "pee\r\nnotice\r\nvmlab> ", "peek 0x10\r\n", "0x10: 0x00\r\nvmlab> ", delay=0.02
    )
    assert guest.run("peek 0x10") == "0x10: 0x00"


def test_a_guest_that_does_not_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ECHO", 0.05)
    guest = answering("42\r\n$ ")
    assert guest.run("answer") == "42"
    guest.feed(b"later\r\n")
    assert guest.expect("[a-z]+").group() == "later"


LATE = "\r\nhot-plug: slot 0: device at 0xd0000000\r\nvmlab> "


@pytest.mark.parametrize("prompt", [module.PROMPT, "vmlab> $", "vmlab> "])
def test_a_command_that_takes_longer_than_an_echo(
    monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    """The prompt of a late notice, the echo, and the answer when all believed that there is no echo."""
    monkeypatch.setattr(module, "ECHO", 0.3)
    guest = answering(LATE, "peek 0x10\r\n", "", "", "", "", "", "0x10: 0x07\r\nvmlab> ", delay=0.1)
    assert guest.run("peek 0x10", prompt) == "0x10: 0x07"


def test_a_command_that_takes_too_long_names_what_keeps_the_machine() -> None:
    guest = answering(LATE + "peek 0x10\r\n")
    guest._busy = lambda: ("the machine is busy in looper0.spin", "its stack")
    began = time.monotonic()
    with pytest.raises(ExpectTimeout, match=r"no match.*busy in looper0\.spin") as caught:
        guest.run("peek 0x10", timeout=0.5)
    assert caught.value.__notes__ == ["its stack"]
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("busy", ["busy in looper0.spin", ""])
def test_an_echo_that_is_kept_as_well(monkeypatch: pytest.MonkeyPatch, busy: str) -> None:
    monkeypatch.setattr(module, "ECHO", 0.1)
    guest = answering(LATE, "", "", "", "peek 0x10\r\n0x10: 0x07\r\nvmlab> ", delay=0.1)
    guest._busy = lambda: (busy, "")
    assert (guest.run("peek 0x10") == "0x10: 0x07") is bool(busy)
    guest = answering(LATE)
    guest._busy = lambda: (busy, "")
    if busy:
        with pytest.raises(ExpectTimeout, match=r"busy in looper0\.spin"):
            guest.run("peek 0x10", timeout=0.3)


@pytest.mark.parametrize("prompt", [module.PROMPT, "vmlab> $", "vmlab> "])
@pytest.mark.parametrize("answer", ["0x10: 0x07\r\n", ""])
@pytest.mark.parametrize("delay", [0, 0.02])
def test_a_notice_behind_the_answer(prompt: str, answer: str, delay: float) -> None:
    """All at once, before anybody has looked: it is no part of the answer, and can be waited for."""
    said = f"peek 0x10\r\n{answer}vmlab> {LATE}{LATE}"
    guest = answering(said[:5], said[5:], delay=delay)
    assert guest.run("peek 0x10", prompt) == answer.strip()
    assert guest.expect("hot-plug: slot 0").start() == 1
    guest = answering(f"{LATE}{said}")
    assert guest.run("peek 0x10", prompt) == answer.strip()


def test_lines_that_look_like_a_shells_prompt_are_part_of_the_answer() -> None:
    guest = answering("cat notes\r\n# \r\n# one\r\n# \r\n# ")
    assert guest.run("cat notes") == "# \n# one\n# "


# --- guests that mean harm ----------------------------------------------------------------------------

FLOOD = 1 << 20


@pytest.mark.parametrize("more", ["x\r\n", "\r\n", "# ", "x", "\xff\r", "x\r\n# \r\n"])
def test_run_keeps_its_timeout_whatever_floods_it(more: str) -> None:
    """A prompt at once, then megabytes that are not quite the echo and a prompt."""
    guest = answering("# ", more * (FLOOD // len(more)), delay=0.05)
    began = time.monotonic()
    try:
        guest.run("x", timeout=1)
    except ExpectTimeout:
        pass
    assert time.monotonic() - began < 3.5


def test_run_keeps_its_timeout_with_a_guest_that_does_not_read() -> None:
    began = time.monotonic()
    with pytest.raises(ExpectTimeout):
        Console(lambda data: 0).run("x", timeout=0.2)
    assert time.monotonic() - began < 2


def test_output_of_megabytes_is_returned_whole() -> None:
    lines = "0123456789abcde\r\n" * (FLOOD // 17)
    guest = answering(
        "dump\r\n", *[lines[at : at + 4096] for at in range(0, FLOOD, 4096)], "\r\n# "
    )
    began = time.monotonic()
    assert guest.run("dump", timeout=60).count("\n") == FLOOD // 17 - 1
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("pause", [0, 0.001])
def test_a_guest_that_writes_on_and_on(pause: float) -> None:
    guest, over = Console(len), threading.Event()

    def write() -> None:
        while not over.wait(pause):
            guest.feed(b"a" * 4096)

    writer = threading.Thread(target=write)
    writer.start()
    began = time.monotonic()
    with pytest.raises(ExpectTimeout, match="no match for 'zzz' within 1 s"):
        guest.expect("zzz", timeout=1)
    assert time.monotonic() - began < 2.5
    over.set()
    writer.join()


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+b", "(?:a*)*b", r"(\w+\s?)*:"])
@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_pattern_that_backtracks_for_ever(pattern: str, timeout: float) -> None:
    guest = Console(len)
    guest.feed(b"a" * 60 + b"!")
    handler, alarm = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    began = time.monotonic()
    with pytest.raises(ExpectTimeout, match=re.escape(pattern) + "'|repetition"):
        guest.expect(pattern, timeout)
    assert time.monotonic() - began < 2
    assert signal.getsignal(signal.SIGALRM) is handler
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) is (alarm[0] > 0), (
        "somebody else's goes on"
    )


class Rung(Exception):
    pass


def test_an_alarm_of_somebody_elses_that_comes_first() -> None:
    def ring(*_: object) -> None:
        raise Rung

    guest = Console(len)
    guest.feed(b"a" * 60 + b"!")
    handler = signal.signal(signal.SIGALRM, ring)
    before = signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Rung):
            guest.expect("(a+)+$", timeout=20)
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_threads_have_no_alarm() -> None:
    guest, found = Console(len), []
    guest.feed(b"login: ")
    thread = threading.Thread(target=lambda: found.append(guest.expect("login: ").group()))
    thread.start()
    thread.join()
    assert found == ["login: "]
