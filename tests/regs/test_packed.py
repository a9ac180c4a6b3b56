"""Structures in guest memory."""

from __future__ import annotations

import struct

import pytest

from vmlab.regs.packed import Packed, array, u8, u16, u32, u64


class Header(Packed):
    kind = u8("what follows")
    length = u32("bytes of it")


class Entry(Header):
    name = array(6, "padded with zeroes")
    port = u16("where")
    address = u64("whose")


def test_fields_lie_in_order_without_padding() -> None:
    assert (Header.size, Entry.size) == (5, 21)
    entry = Entry(kind=1, length=0x0203_0405, name=b"abc", port=0x0607, address=8)
    assert bytes(entry).hex() == "010504030261626300000007060800000000000000"


def test_what_is_not_given_is_zero() -> None:
    assert bytes(Entry()) == bytes(21)


def test_parse_is_the_inverse() -> None:
    data = bytes(range(30))
    entry = Entry.parse(data, offset=3)
    assert bytes(entry) == data[3:24]
    assert entry.kind == 3
    assert entry.to_dict()["name"] == bytes(range(8, 14))
    assert bytes(Entry.parse(memoryview(data), 9)) == data[9:]


def test_too_little_to_parse() -> None:
    with pytest.raises(struct.error):
        Entry.parse(bytes(20))


def test_an_unknown_field() -> None:
    with pytest.raises(TypeError, match="Header has no field colour"):
        Header(colour=1)


def test_a_value_that_does_not_fit() -> None:
    with pytest.raises(struct.error):
        bytes(Header(kind=256))


def test_it_shows_its_fields() -> None:
    assert repr(Header(kind=1)) == "Header(kind=1, length=0)"
