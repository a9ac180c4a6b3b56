"""The kernel command line's bounds and texts."""

from __future__ import annotations

import pytest

from vmlab.core.cmdline import Cmdline
from vmlab.errors import CmdlineError


def test_elements_are_parted_by_a_space() -> None:
    line = Cmdline()
    line.insert("console", "ttyS0")
    line.insert("panic", "1")
    line.insert_str("reboot=k quiet")
    assert str(line) == "console=ttyS0 panic=1 reboot=k quiet"
    assert len(line) == len(str(line))
    assert line.to_bytes() == b"console=ttyS0 panic=1 reboot=k quiet\0"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("a=b", "c", "Command line string contains an equals sign"),
        ("a", "b=c", "Command line string contains an equals sign"),
        ("a b", "c", "Command line string contains a space"),
        ("a", " ", "Command line string contains a space"),
        ("a\n", "b", "Command line string contains non-printable ASCII character"),
        ("a", "b\0", "Command line string contains non-printable ASCII character"),
        ("a", "\x7f", "Command line string contains non-printable ASCII character"),
        ("é", "b", "Command line string contains non-printable ASCII character"),
    ],
)
def test_elements_that_are_refused(key: str, value: str, message: str) -> None:
    line = Cmdline(100, "before")
    with pytest.raises(CmdlineError) as caught:
        line.insert(key, value)
    assert str(caught.value) == message
    assert str(line) == "before"


def test_whole_text_must_be_printable() -> None:
    with pytest.raises(CmdlineError, match="non-printable"):
        Cmdline(100, "a\tb")


def test_capacity_counts_the_nul() -> None:
    line = Cmdline(4)
    line.insert("a", "b")
    assert line.to_bytes() == b"a=b\0"
    with pytest.raises(CmdlineError) as caught:
        Cmdline(3).insert("a", "b")
    assert str(caught.value) == "Command line inserting string would make command line too long"


def test_capacity_counts_the_space_between() -> None:
    line = Cmdline(8, "a=b")
    line.insert("c", "d")
    assert len(line.to_bytes()) == 8
    with pytest.raises(CmdlineError, match="too long"):
        line.insert_str("e")
    assert str(line) == "a=b c=d"


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_line_has_room_for_something(capacity: int) -> None:
    with pytest.raises(CmdlineError, match="greater than zero"):
        Cmdline(capacity)


def test_what_guest_memory_cannot_hold() -> None:
    line = Cmdline(100, "quiet")
    assert line.to_bytes(room=6) == b"quiet\0"
    with pytest.raises(CmdlineError) as caught:
        line.to_bytes(room=5)
    assert str(caught.value) == "Command line string overflows guest memory"


def test_an_empty_line_is_a_nul() -> None:
    assert Cmdline().to_bytes() == b"\0"
    assert repr(Cmdline(100, "quiet")) == "Cmdline('quiet', 6 of 100 bytes)"
