"""A device's values, as an answer carries them."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from vmlab.errors import WireError
from vmlab.monitor import wire
from vmlab.monitor.plain import ITEMS, VALUE, Plain


class Rude:
    def __repr__(self) -> str:
        raise KeyboardInterrupt


LARGE = 32 << 20


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (bytearray(LARGE), "32 MiB of bytes (33,554,432)"),
        ("x" * LARGE, "33,554,432 characters: xxx"),
        ([0] * (4 << 20), "4,194,304 in all"),
        ({n: n for n in range(100_000)}, "100,000 in all"),
        (1 << 3_000_000, "a number of 3,000,001 bits"),
        ([["x" * VALUE] * ITEMS] * ITEMS, "1,000 in all"),
        (Rude(), "the repr of a Rude raised KeyboardInterrupt"),
        ({Rude(): 1}, "the repr of a Rude raised"),
        ("\udcff.img", r"\udcff.img"),
        (deque([b"x" * 5000], maxlen=3), "bytes (5,000)"),
    ],
    ids=["bytes", "text", "list", "dict", "number", "nested", "repr", "key", "surrogate", "deque"],
)
def test_a_view_gets_the_size_of_what_is_large(value: Any, said: str) -> None:
    plain = Plain(summed=True).of(value)
    packed = wire.pack(wire.Peeked({}, {"value": plain}))
    assert len(packed) < 4 << 20
    assert said in repr(plain).replace("\\\\", "\\")


def test_all_attributes_together_are_bounded() -> None:
    plain = Plain(summed=True)
    values = {str(n): plain.of(["x" * VALUE] * ITEMS) for n in range(50)}
    assert len(wire.pack(wire.Peeked({}, values))) < 4 << 20


@pytest.mark.parametrize("value", [None, True, 1.5, -5, (1 << 64) - 1, "text", b"bytes"])
def test_small_values_stay_what_they_are(value: Any) -> None:
    assert Plain(summed=True).of(value) == value
    assert Plain(summed=False).of([value, {"a": value}]) == [value, {"a": value}]


def test_a_result_is_whole_or_an_error() -> None:
    assert Plain(summed=False).of(bytes(100_000)) == bytes(100_000)
    assert Plain(summed=False).of(list(range(5000))) == list(range(5000))
    with pytest.raises(WireError, match="does not fit"):
        Plain(summed=False).of(["x" * 1000] * 50_000)
    plain = Plain(summed=False).of("x" * LARGE)
    answer = wire.decode(wire.pack_answer(1, wire.Told(plain))[4:], wire.Answer)
    assert isinstance(answer.reply, wire.Failed)
    assert answer.reply.error == "WireError"


def said_of(text: str) -> wire.Said:
    return wire.Said([wire.Saying(0.0, "", "print", text)])


def test_an_event_that_cannot_be_packed_says_so() -> None:
    for text in ("\udcff", "x" * LARGE):
        event = wire.decode(wire.pack_event(said_of(text))[4:], wire.FromMonitor)
        assert "cannot be sent" in event.sayings[0].text
