"""Device trees: what dtc makes of ours, and what we make of anybody's."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.boot.dtc import source
from tests.support import require_program
from vmlab.boot import fdt
from vmlab.boot.fdt import Node, cells, reg, text
from vmlab.errors import ConfigError

NAMES = st.from_regex(r"[a-z][a-z0-9,._+-]{0,20}(@[0-9a-f]{1,8})?", fullmatch=True)
PROPERTIES = st.dictionaries(
    st.from_regex(r"[a-z#][a-zA-Z0-9,._+?#-]{0,20}", fullmatch=True),
    st.binary(max_size=40),
    max_size=5,
)
TREES = st.recursive(
    st.builds(Node, NAMES, PROPERTIES, st.just([])),
    lambda nodes: st.builds(Node, NAMES, PROPERTIES, st.lists(nodes, max_size=4)),
    max_leaves=20,
).map(lambda node: node._replace(name=""))
SMALL = Node(
    "",
    {
        "#address-cells": cells(2),
        "#size-cells": cells(2),
        "compatible": text("vmlab,krun", "linux,dummy-virt"),
    },
    [Node("memory@80000000", {"device_type": text("memory"), "reg": reg(1 << 31, 1 << 27)}, [])],
)


@given(TREES)
def test_what_is_written_is_read(tree: Node) -> None:
    assert fdt.parse(fdt.flatten(tree)) == tree


def test_dtc_reads_it(tmp_path: Path) -> None:
    found = source(fdt.flatten(SMALL), tmp_path)
    assert 'compatible = "vmlab,krun", "linux,dummy-virt";' in found.replace("\\0", '", "')
    assert "reg = <0x00 0x80000000 0x00 0x8000000>;" in found


def test_we_read_dtcs(tmp_path: Path) -> None:
    dtc = require_program("dtc")
    source = '/dts-v1/; / { a { b = "x", "y"; c = <1 2>; }; /* */ d@10 { }; };'
    done = subprocess.run(
        [dtc, "-q", "-O", "dtb"], input=source.encode(), capture_output=True, check=True
    )
    tree = fdt.parse(done.stdout)
    assert [one.name for one in tree.walk()] == ["", "a", "d@10"]
    node = tree.child("a")
    assert node is not None
    assert node.properties == {"b": text("x", "y"), "c": cells(1, 2)}
    assert tree.child("d") is tree.children[1]


@given(st.data())
def test_a_tree_that_lies_is_an_error_and_no_more(data: st.DataObject) -> None:
    blob = bytearray(fdt.flatten(SMALL))
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ConfigError):
        fdt.parse(bytes(blob))


@given(st.integers(0, len(fdt.flatten(SMALL)) - 1))
def test_a_tree_that_is_cut_is_an_error(size: int) -> None:
    with pytest.raises(ConfigError, match="device tree: cut"):
        fdt.parse(fdt.flatten(SMALL)[:size])


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (b"/dts-v1/; / { };" + bytes(40), "not d0 0d fe ed; compile a source with dtc"),
        (fdt.flatten(SMALL)[:20] + cells(3) + fdt.flatten(SMALL)[24:], "of version 3"),
        (fdt.flatten(SMALL)[:8] + cells(1 << 30) + fdt.flatten(SMALL)[12:], "outside of it"),
    ],
)
def test_what_is_wrong_is_said(blob: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        fdt.parse(blob)


def test_nodes_without_end() -> None:
    nested = Node("", {}, [])
    for _ in range(100):
        nested = Node("n", {}, [nested])
    with pytest.raises(ConfigError, match="deep"):
        fdt.parse(fdt.flatten(nested))
