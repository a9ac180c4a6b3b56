"""`console.run` against guests that echo, that do not, and that speak out of turn."""

from __future__ import annotations

import threading

import pytest

from vmlab import console as module
from vmlab.console import Console


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
