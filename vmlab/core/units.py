"""Sizes and paths as people write them."""

from __future__ import annotations

import os
import re

from vmlab.errors import ConfigError

__all__ = ["parse_path", "parse_size", "show_size", "show_span"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_path(what: str, path: object) -> str:
    """The text of a path; ConfigError where it is none. what: the argument that it was given as."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{what}={path!r:.60}: give the path of a file")
    return text


def parse_size(text: str | int) -> int:
    """Bytes for 67108864, "64M", "1G", "0x4000000"; ConfigError otherwise."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is no size; write bytes, or a number with K, M or G: 64M")
    word = text.strip().lower()
    match = re.fullmatch(r"(\d+)([kmgt]?)(?:i?b)?", word)
    if match:
        return int(match[1]) * _UNITS[match[2]]
    try:
        return int(word, 0)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no size; write bytes, or a number with K, M or G: 64M"
        ) from None


def show_size(size: int) -> str:
    """The shortest exact form: 0x1000 is 4K."""
    for unit in "TGMK":
        step = _UNITS[unit.lower()]
        if size >= step and size % step == 0:
            return f"{size // step}{unit}"
    return str(size)


def show_span(size: int) -> str:
    """Three digits at most and a unit, for people: 4 KiB, 2.5 MiB, 748 MiB."""
    for unit, step in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= step:
            number = size / step
            return (
                f"{number:.0f} {unit}"
                if number == int(number) or number >= 100
                else f"{number:.1f} {unit}"
            )
    return f"{size} B"
