"""The console and the terminal, without a machine."""

from __future__ import annotations

import io
import os
import pty
import termios
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vms import PATIENCE, PROMPT, after, monitor
from vmlab.errors import ExpectTimeout, StateError
from vmlab.vm import console as module
from vmlab.vm.console import Console
from vmlab.vm.terminal import WAITING, EscapeReader, Keyboard, Printer, interact, raw_mode


@pytest.fixture
def console() -> Console:
    return Console(len)


# --- what was written ---------------------------------------------------------------------------------


def test_text_and_data(console: Console) -> None:
    console.feed(b"one\r\n")
    console.feed(b"two\r\n\xff\xc3")
    assert console.data == b"one\r\ntwo\r\n\xff\xc3"
    assert console.text == "one\ntwo\n\ufffd\ufffd"


def test_expect_goes_on_after_the_last_match(console: Console) -> None:
    console.feed(b"a1 a2\r\na3\r\n")
    assert [console.expect(r"a(\d)")[1] for _ in range(3)] == ["1", "2", "3"]
    with pytest.raises(ExpectTimeout):
        console.expect("a", timeout=0.01)
    after(0.05, console.feed, b"a4")
    assert console.expect(r"a(\d)")[1] == "4"


def test_lines_end_with_a_line_feed_alone(console: Console) -> None:
    console.feed(b"one\r\ntwo\r")
    assert console.expect("one\ntwo$")
    console.feed(b"\nthree\r\n")
    assert console.expect("^\nthree\n$")


@pytest.mark.parametrize(
    "noise", [b"\xff\xff\xff", "ü€𝄞".encode(), b"\r\r\n\r", b"\xe2\x82", b"\xf0\x9f\r"]
)
def test_the_cursor_is_right_whatever_lies_before_it(console: Console, noise: bytes) -> None:
    console.feed(noise + b"first" + noise + b"second" + noise + b"third")
    for word in ("first", "second", "third"):
        assert console.expect("[a-z]+")[0] == word


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_no_bytes_confuse_the_cursor(parts: list[bytes]) -> None:
    console = Console(len)
    for number, part in enumerate(parts):
        console.feed(part + f"<<{number}>>".encode())
    for number in range(len(parts)):
        assert console.expect(r"<<(\d)>>")[1] == str(number)


def test_a_timeout_says_what_was_wanted_and_what_came(console: Console) -> None:
    console.feed(b"x" * 1000 + b"the end")
    began = time.monotonic()
    with pytest.raises(
        ExpectTimeout, match=r"(?s)no match for 'login: ' within 0\.1 s.*the end'"
    ) as error:
        console.expect("login: ", timeout=0.1)
    assert time.monotonic() - began < 1
    assert isinstance(error.value, TimeoutError)
    assert len(str(error.value)) < 600


def test_the_end_is_told_unless_it_matches(console: Console) -> None:
    console.feed(b"bye")
    console._ended = lambda: StateError("it is over")
    assert console.expect("bye")
    with pytest.raises(StateError, match="it is over"):
        console.expect("more")


def test_a_wait_ends_when_the_machine_does(console: Console) -> None:
    ended: list[StateError] = []
    console._ended = lambda: ended[0] if ended else None

    def end() -> None:
        ended.append(StateError("over"))
        console.wake()

    after(0.05, end)
    began = time.monotonic()
    with pytest.raises(StateError):
        console.expect("x", timeout=10)
    assert time.monotonic() - began < 1


def test_the_buffer_is_bounded(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 1000)
    for number in range(2000):
        console.feed(b"%04d\n" % number)
    assert len(console.data) <= 1250
    assert console.data.endswith(b"1999\n")
    assert repr(console) == "<Console 10000 bytes>"
    assert int(console.expect(r"(\d{4})\n")[1]) > 1700, "what is gone is not waited for"


def test_listeners(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []
    console.feed(b"before")
    stop = console.listen(heard.append)
    stop_all = console.listen(heard.append, replay=True)
    console.listen(lambda data: 1 / 0)  # type: ignore[arg-type]
    console.feed(b"x")
    stop()
    stop()
    console.feed(b"y")
    stop_all()
    console.feed(b"z")
    assert heard == [b"before", b"x", b"x", b"y"]
    assert caplog.text.count("ZeroDivisionError: ") == 1


# --- what is typed --------------------------------------------------------------------------------------


def test_send_waits_for_room() -> None:
    taken: list[bytes] = []
    room = [3, 0, 0, 4, 100]

    def port(data: bytes) -> int:
        count = min(room.pop(0) if room else 0, len(data))
        taken.append(data[:count])
        return count

    console = Console(port)
    assert console.send("hello world") == 11
    assert b"".join(taken) == b"hello world"
    assert console.send(b"more", timeout=0.05) == 0


def test_a_hundred_kilobytes_for_a_guest_that_does_not_read(engine: str) -> None:
    """They wait, and come in order; what has no room is not taken."""
    with monitor(engine) as vm:
        vm.pause()
        filler = "#" * 60 + "\x15"
        text = "poke 0x300000 7\npeek 0x300000\n" + filler * (100_000 // len(filler))
        assert vm.console.send(text) == len(text)
        began = time.monotonic()
        assert vm.console.send(bytes(2 << 20), timeout=0.2) < 1 << 20
        assert time.monotonic() - began < 5
        assert vm.devices["com1"].peek()["LSR"] & 2 == 0, "nothing was lost"
        vm.reset()
        vm.resume()
        vm.console.expect(PROMPT, PATIENCE)
        assert vm.console.run("peek 0x300000", timeout=PATIENCE).endswith("0x00000000")


def test_a_burst_of_output(engine: str) -> None:
    with monitor(engine) as vm:
        heard: list[bytes] = []
        vm.console.listen(heard.append, replay=True)
        vm.console.send("dump 0x100000 0x1000\n")
        vm.console.expect(PROMPT, 60)
        vm.pause()
        assert b"".join(heard) == vm.console.data
        assert vm.console.text.count("\n") > 256


def test_run_returns_what_the_command_printed(engine: str) -> None:
    with monitor(engine) as vm:
        vm.console.send("help\n")
        assert vm.console.expect(PROMPT, PATIENCE)
        assert vm.console.run("poke 0x300000 0x55", timeout=PATIENCE) == ""
        assert vm.console.run("peek 0x300000", timeout=PATIENCE) == "0x00300000: 0x00000055"
        assert "unknown command" in vm.console.run("nonsense", timeout=PATIENCE)


# --- the terminal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "out", "leave"),
    [
        ([b"hello"], b"hello", False),
        ([b"\x01x"], b"", True),
        ([b"ab\x01Xcd"], b"ab", True),
        ([b"\x01", b"x"], b"", True),
        ([b"\x01\x01x"], b"\x01x", False),
        ([b"\x01", b"\x01", b"\x01x"], b"\x01", True),
        ([b"\x01q"], b"\x01q", False),
        ([b"\x01"], b"", False),
        ([b""], b"", False),
        ([bytes(range(2, 256))], bytes(range(2, 256)), False),
    ],
)
def test_the_escape(typed: list[bytes], out: bytes, leave: bool) -> None:
    reader = EscapeReader()
    seen = [reader.feed(data) for data in typed]
    assert b"".join(data for data, _ in seen) == out
    assert seen[-1][1] is leave


def typing(fd: int, send: Callable[[bytes], int]) -> Keyboard:
    keyboard = Keyboard(fd, send, lambda: None)
    keyboard.begin()
    return keyboard


def test_a_pipe_has_no_escape_and_may_end() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"a\x01xb")
    os.close(theirs)
    typed: list[bytes] = []
    done = threading.Event()

    def send(data: bytes) -> int:
        typed.append(data[:2])
        if b"".join(typed) == b"a\x01xb":
            done.set()
        return min(2, len(data))

    keyboard = typing(ours, send)
    assert done.wait(5), typed
    assert not keyboard.left
    keyboard.close()
    os.close(ours)


def test_a_keyboard_ends_with_the_session() -> None:
    ours, theirs = os.pipe()
    keyboard = typing(ours, len)
    began = time.monotonic()
    keyboard.close()
    assert time.monotonic() - began < 2
    os.write(theirs, b"for the shell")
    assert os.read(ours, 100) == b"for the shell"
    os.close(ours)
    os.close(theirs)


def test_a_guest_that_takes_nothing_does_not_hide_the_escape() -> None:
    ours, theirs = pty.openpty()
    with raw_mode(theirs):
        woken = threading.Event()
        keyboard = Keyboard(theirs, lambda data: time.sleep(0.01) or 0, woken.set)
        keyboard.begin()
        os.write(ours, b"q" * 1000)
        time.sleep(0.1)
        os.write(ours, b"\x01x")
        assert woken.wait(2)
        assert keyboard.left
        keyboard.close()
    os.close(ours)
    os.close(theirs)


def test_a_pipe_waits_for_the_guest() -> None:
    """What a guest takes slowly stays in the pipe: nothing is lost, and little is kept."""
    ours, theirs = os.pipe()
    got, size = bytearray(), 1 << 18

    def send(data: bytes) -> int:
        got.extend(data[:5000])
        assert len(data) <= WAITING
        return len(data[:5000])

    keyboard = typing(ours, send)
    writer = threading.Thread(target=os.write, args=(theirs, bytes(size)))
    writer.start()
    writer.join(5)
    end = time.monotonic() + 5
    while len(got) < size and time.monotonic() < end:
        time.sleep(0.01)
    assert len(got) == size
    keyboard.close()
    os.close(ours)
    os.close(theirs)


def test_raw_mode_is_put_back_whatever_happens() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)

    def interrupted() -> None:
        with raw_mode(theirs):
            inside = termios.tcgetattr(theirs)
            assert not inside[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
            assert inside[1] == before[1], "output keeps its newlines"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    with raw_mode(os.open(os.devnull, os.O_RDONLY)):
        pass


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_pipe(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, blocking)
    data = bytes(1 << 18)
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(os.read(ours, 1 << 16))

    reader = threading.Thread(target=read)
    after(0.05, reader.start)
    with open(theirs, "w", closefd=False) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        Printer(lambda: None).show(data)
    reader.join(5)
    assert got == data
    os.close(ours)
    os.close(theirs)


def test_a_pipe_that_nobody_reads_holds_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    with open(theirs, "w", closefd=False) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        printer = Printer(lambda: None)
    shower = threading.Thread(target=printer.show, args=(bytes(1 << 18),))
    shower.start()
    time.sleep(0.05)
    assert shower.is_alive()
    printer.close()
    shower.join(2)
    assert not shower.is_alive()
    os.close(ours)
    os.close(theirs)


def test_interact_without_a_terminal(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    stdins: list[Callable[[], object]] = [lambda: None, io.StringIO]
    for make in stdins:
        monkeypatch.setattr("sys.stdin", make())
        with pytest.raises(StateError, match="needs a terminal"):
            interact(console)
