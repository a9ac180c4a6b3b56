"""Flattened device trees (Devicetree Specification 0.4, chapter 5): written for guests, and read back.

    tree = Node("", {"#address-cells": cells(2)}, [Node("memory@80000000", {"device_type": text("memory")})])
    blob = flatten(tree)

A tree that is read is not trusted: every offset and length is checked against the blob.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from vmlab.errors import ConfigError

__all__ = ["MAX_SIZE", "Node", "cells", "flatten", "parse", "reg", "text"]

_MAGIC, _VERSION, _COMPATIBLE = 0xD00D_FEED, 17, 16
_BEGIN, _END, _PROPERTY, _NOP, _LAST = 1, 2, 3, 4, 9
_HEADER = struct.Struct(">10I")
#: Linux maps no more of one
MAX_SIZE = 2 << 20
#: nodes within nodes; real trees have about eight
_DEEPEST = 64


class Node(NamedTuple):
    """name: with its unit address, "" for the root. properties: values as they lie in the blob."""

    name: str
    properties: dict[str, bytes] = {}
    children: list[Node] = []

    def child(self, name: str) -> Node | None:
        """The child of that name; a unit address may be left out."""
        return next((one for one in self.children if name in (one.name, _plain(one.name))), None)

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for one in self.children:
            yield from one.walk()


def _plain(name: str) -> str:
    return name.partition("@")[0]


def cells(*values: int) -> bytes:
    """32-bit values."""
    return struct.pack(f">{len(values)}I", *values)


def reg(*values: int) -> bytes:
    """64-bit values: addresses and sizes where each has two cells."""
    return struct.pack(f">{len(values)}Q", *values)


def text(*values: str) -> bytes:
    """A string, or several one behind another."""
    return b"".join(value.encode() + b"\0" for value in values)


# --- writing ------------------------------------------------------------------------------------


def flatten(root: Node, cpu: int = 0) -> bytes:
    """The blob. cpu: the physical id of the CPU that starts."""
    strings: dict[str, int] = {}
    names = bytearray()

    def name_at(name: str) -> int:
        if name not in strings:
            strings[name] = len(names)
            names.extend(name.encode() + b"\0")
        return strings[name]

    def put(node: Node) -> Iterator[bytes]:
        yield cells(_BEGIN) + _padded(node.name.encode() + b"\0")
        for name, value in node.properties.items():
            yield cells(_PROPERTY, len(value), name_at(name)) + _padded(value)
        for child in node.children:
            yield from put(child)
        yield cells(_END)

    structure = b"".join(put(root)) + cells(_LAST)
    reserved = bytes(16)  # an empty list of reserved memory
    at = _HEADER.size + len(reserved)
    head = _HEADER.pack(
        *(_MAGIC, at + len(structure) + len(names), at, at + len(structure), _HEADER.size),
        *(_VERSION, _COMPATIBLE, cpu, len(names), len(structure)),
    )
    return head + reserved + structure + bytes(names)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# --- reading ------------------------------------------------------------------------------------


def parse(blob: bytes, what: str = "device tree") -> Node:
    """The tree in `blob`. ConfigError, which says what is wrong with `what`."""
    return _Reader(blob, what).tree()


class _Reader:
    def __init__(self, blob: bytes, what: str) -> None:
        self._what = what
        if len(blob) < _HEADER.size:
            raise self._bad(f"cut: a header is longer than its {len(blob)} bytes")
        magic, size, structure, strings, _, version, compatible, _, names, length = (
            _HEADER.unpack_from(blob)
        )
        if magic != _MAGIC:
            raise self._bad(
                f"it begins {blob[:4].hex(' ')}, not d0 0d fe ed; compile a source with dtc"
            )
        if version < _COMPATIBLE or compatible > _VERSION:
            raise self._bad(f"of version {version}; {_VERSION} is known here")
        if size > len(blob):
            raise self._bad(f"cut: {size:#x} bytes, of which {len(blob):#x} are there")
        if structure % 4 or structure + length > size or strings + names > size:
            raise self._bad("its header names places outside of it")
        self._structure, self._strings = (
            blob[structure : structure + length],
            blob[strings : strings + names],
        )
        self._at = 0

    def _bad(self, why: str) -> ConfigError:
        return ConfigError(f"{self._what}: {why}")

    def _take(self, size: int) -> bytes:
        found = self._structure[self._at : self._at + size]
        if len(found) < size:
            raise self._bad(f"cut: it ends within its structure, at {self._at:#x}")
        self._at += size + -size % 4
        return found

    def _token(self) -> int:
        while True:
            token: int = struct.unpack(">I", self._take(4))[0]
            if token != _NOP:
                return token

    def _string(self, data: bytes, at: int) -> str:
        end = data.find(b"\0", at)
        if at >= len(data) or end < 0:
            raise self._bad(f"cut: a name at {at:#x} has no end")
        return data[at:end].decode("ascii", "backslashreplace")

    def tree(self) -> Node:
        if self._token() != _BEGIN:
            raise self._bad("it begins with no node")
        root = self._node(0)
        if self._token() != _LAST:
            raise self._bad("something follows its root node")
        return root

    def _node(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise self._bad(f"nodes lie {_DEEPEST} deep in it")
        name = self._string(self._structure, self._at)
        self._take(len(name.encode()) + 1)
        node = Node(name, {}, [])
        while (token := self._token()) != _END:
            if token == _BEGIN:
                node.children.append(self._node(depth + 1))
            elif token == _PROPERTY:
                size, at = struct.unpack(">2I", self._take(8))
                node.properties[self._string(self._strings, at)] = self._take(size)
            else:
                raise self._bad(f"a token {token:#x} at {self._at:#x}")
        return node
