"""Names of keys, and characters on a US keyboard."""

from __future__ import annotations

import string

import pytest

from vmlab.devices.pc.scan_codes import KEYS
from vmlab.errors import ConfigError
from vmlab.vm.keys import chord, typed


def test_plain_and_shifted() -> None:
    assert typed("a") == [("KeyA", True), ("KeyA", False)]
    assert [code for code, _ in typed("?")] == ["ShiftLeft", "Slash", "Slash", "ShiftLeft"]


def test_every_printable_character_has_a_key() -> None:
    for character in string.printable.replace("\x0b", "").replace("\x0c", ""):
        assert all(code in KEYS for code, _ in typed(character))


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("up", ["ArrowUp"]),
        ("F1", ["F1"]),
        ("ctrl-c", ["ControlLeft", "KeyC"]),
        ("ctrl-alt-del", ["ControlLeft", "AltLeft", "Delete"]),
        ("-", ["Minus"]),
        ("ctrl--", ["ControlLeft", "Minus"]),
        ("shift", ["ShiftLeft"]),
        ("Numpad1", ["Numpad1"]),
        ("A", ["ShiftLeft", "KeyA"]),
    ],
)
def test_chords(name: str, codes: list[str]) -> None:
    strikes = chord(name)
    assert [code for code, down in strikes if down] == codes
    assert [code for code, down in strikes if not down] == codes[::-1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("entr", "did you mean 'enter'"),
        ("ctrl-upp", "did you mean 'up'"),
        ("", "'' is no key"),
        ("ü", "on no key of a US keyboard"),
    ],
)
def test_wrong_names(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chord(name)
