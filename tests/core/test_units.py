"""Sizes and paths as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmlab.core.units import parse_path, parse_size, show_size
from vmlab.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("4KiB", 4096),
        ("1G", 1 << 30),
        (" 2T ", 2 << 40),
        ("0x4000000", 0x400_0000),
        ("512", 512),
        (512, 512),
        ("-1", -1),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "64X", "1.5G", "many", "0xZ", "64 M M"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(4096, "4K"), (64 << 20, "64M"), (1 << 30, "1G"), (1000, "1000"), (0, "0")]
)
def test_the_shortest_exact_form(size: int, text: str) -> None:
    assert show_size(size) == text
    assert parse_size(text) == size


@pytest.mark.parametrize("path", [5, b"disk.img", "", None, ["disk.img"], Path])
def test_what_is_no_path(path: object) -> None:
    with pytest.raises(ConfigError, match=r"disk=.*: give the path of a file"):
        parse_path("disk", path)


def test_paths() -> None:
    assert parse_path("disk", "a b") == "a b"
    assert parse_path("disk", Path("a")) == "a"
