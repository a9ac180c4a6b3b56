"""What a PC's keyboard sends for its keys (IBM Personal System/2 Technical Reference, "Keyboards (101- and
102-Key)"): scan code set 2, and what the keyboard controller makes of it, set 1.

Keys have the names of the W3C's UI Events KeyboardEvent code Values, which say where a key is and not what is
printed on it.
"""

from __future__ import annotations

__all__ = ["BREAK", "KEYS", "RELEASED", "TRANSLATION"]

#: precedes the code of a key that is let go, in set 2
BREAK = 0xF0
#: the bit of its code in set 1
RELEASED = 0x80
_EXTENDED = 0xE0

#: name, its code in set 1, in set 2
_PLAIN = """
Escape 01 76  Digit1 02 16  Digit2 03 1e  Digit3 04 26  Digit4 05 25  Digit5 06 2e  Digit6 07 36  Digit7 08 3d
Digit8 09 3e  Digit9 0a 46  Digit0 0b 45  Minus 0c 4e  Equal 0d 55  Backspace 0e 66  Tab 0f 0d
KeyQ 10 15  KeyW 11 1d  KeyE 12 24  KeyR 13 2d  KeyT 14 2c  KeyY 15 35  KeyU 16 3c  KeyI 17 43  KeyO 18 44
KeyP 19 4d  BracketLeft 1a 54  BracketRight 1b 5b  Enter 1c 5a  ControlLeft 1d 14
KeyA 1e 1c  KeyS 1f 1b  KeyD 20 23  KeyF 21 2b  KeyG 22 34  KeyH 23 33  KeyJ 24 3b  KeyK 25 42  KeyL 26 4b
Semicolon 27 4c  Quote 28 52  Backquote 29 0e  ShiftLeft 2a 12  Backslash 2b 5d
KeyZ 2c 1a  KeyX 2d 22  KeyC 2e 21  KeyV 2f 2a  KeyB 30 32  KeyN 31 31  KeyM 32 3a  Comma 33 41  Period 34 49
Slash 35 4a  ShiftRight 36 59  NumpadMultiply 37 7c  AltLeft 38 11  Space 39 29  CapsLock 3a 58
F1 3b 05  F2 3c 06  F3 3d 04  F4 3e 0c  F5 3f 03  F6 40 0b  F7 41 83  F8 42 0a  F9 43 01  F10 44 09
NumLock 45 77  ScrollLock 46 7e  Numpad7 47 6c  Numpad8 48 75  Numpad9 49 7d  NumpadSubtract 4a 7b
Numpad4 4b 6b  Numpad5 4c 73  Numpad6 4d 74  NumpadAdd 4e 79  Numpad1 4f 69  Numpad2 50 72  Numpad3 51 7a
Numpad0 52 70  NumpadDecimal 53 71  IntlBackslash 56 61  F11 57 78  F12 58 07
"""
_AFTER_E0 = """
NumpadEnter 1c 5a  ControlRight 1d 14  NumpadDivide 35 4a  AltRight 38 11  Home 47 6c  ArrowUp 48 75
PageUp 49 7d  ArrowLeft 4b 6b  ArrowRight 4d 74  End 4f 69  ArrowDown 50 72  PageDown 51 7a  Insert 52 70
Delete 53 71  MetaLeft 5b 1f  MetaRight 5c 27  ContextMenu 5d 2f
"""


def _rows(text: str) -> list[tuple[str, int, int]]:
    words = text.split()
    rows = zip(words[::3], words[1::3], words[2::3], strict=True)
    return [(name, int(first, 16), int(second, 16)) for name, first, second in rows]


#: name -> (set 2 when it is pressed, when it is let go)
KEYS: dict[str, tuple[bytes, bytes]] = {
    name: (bytes((code,)), bytes((BREAK, code))) for name, _, code in _rows(_PLAIN)
}
KEYS |= {
    name: (bytes((_EXTENDED, code)), bytes((_EXTENDED, BREAK, code)))
    for name, _, code in _rows(_AFTER_E0)
}
KEYS["PrintScreen"] = bytes.fromhex("e012e07c"), bytes.fromhex("e0f07ce0f012")
KEYS["Pause"] = bytes.fromhex("e11477e1f014f077"), b""

#: set 2 -> set 1, byte by byte; what is no code of a key stays, and "too many keys" has a code in each
TRANSLATION = bytearray(range(256))
for _name, _first, _second in _rows(_PLAIN) + _rows(_AFTER_E0):
    TRANSLATION[_second] = _first
TRANSLATION[0x00], TRANSLATION[0x02] = 0xFF, 0x41
