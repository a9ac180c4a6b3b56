"""Keys of a PC's keyboard by the names that people call them, and characters as a US keyboard has them."""

from __future__ import annotations

from string import ascii_lowercase, digits

from vmlab.devices.pc.scan_codes import KEYS
from vmlab.errors import ConfigError
from vmlab.hints import perhaps

__all__ = ["Strike", "chord", "typed"]

#: KeyboardEvent.code, and whether the key goes down
Strike = tuple[str, bool]

_MODIFIERS = {
    "ctrl": "ControlLeft",
    "control": "ControlLeft",
    "shift": "ShiftLeft",
    "alt": "AltLeft",
    "altgr": "AltRight",
    "meta": "MetaLeft",
    "win": "MetaLeft",
    "super": "MetaLeft",
}
_NAMES = {
    "up": "ArrowUp",
    "down": "ArrowDown",
    "left": "ArrowLeft",
    "right": "ArrowRight",
    "return": "Enter",
    "esc": "Escape",
    "del": "Delete",
    "ins": "Insert",
    "pgup": "PageUp",
    "pgdn": "PageDown",
    "caps": "CapsLock",
    "print": "PrintScreen",
    "menu": "ContextMenu",
}
_NAMES |= _MODIFIERS | {name.lower(): name for name in KEYS}

_PLAIN = {
    " ": "Space",
    "\n": "Enter",
    "\r": "Enter",
    "\t": "Tab",
    "\b": "Backspace",
    "\x7f": "Backspace",
    "\x1b": "Escape",
    "-": "Minus",
    "=": "Equal",
    "[": "BracketLeft",
    "]": "BracketRight",
    "\\": "Backslash",
    ";": "Semicolon",
    "'": "Quote",
    "`": "Backquote",
    ",": "Comma",
    ".": "Period",
    "/": "Slash",
}
_PLAIN |= {letter: f"Key{letter.upper()}" for letter in ascii_lowercase}
_PLAIN |= {digit: f"Digit{digit}" for digit in digits}
_SHIFTED = {
    shifted: _PLAIN[plain]
    for shifted, plain in zip(
        'ABCDEFGHIJKLMNOPQRSTUVWXYZ!@#$%^&*()_+{}|:"~<>?',
        "abcdefghijklmnopqrstuvwxyz1234567890-=[]\\;'`,./",
        strict=True,
    )
}


def typed(character: str) -> list[Strike]:
    """What types it; ConfigError where no key does."""
    if character in _PLAIN:
        return _struck([], _PLAIN[character])
    if character in _SHIFTED:
        return _struck(["ShiftLeft"], _SHIFTED[character])
    raise ConfigError(
        f"{character!r} is on no key of a US keyboard, which is the one that is typed on"
    )


def chord(name: str) -> list[Strike]:
    """A key by its name, after the modifiers that are held: "f1", "ctrl-c", "ctrl-alt-del", "A"."""
    asked: object = name
    if not isinstance(asked, str) or not name:
        raise ConfigError(f'{name!r:.60} is no key; keys are called "a", "ctrl-c", "up", "f1"')
    held, rest = list[str](), name
    while True:
        first, dash, after = rest.partition("-")
        if not dash or not after or first.lower() not in _MODIFIERS:
            break
        held.append(_MODIFIERS[first.lower()])
        rest = after
    if len(rest) == 1:
        return _within(held, typed(rest))
    code = _NAMES.get(rest.lower())
    if code is None:
        known = [*_NAMES, *_PLAIN]
        raise ConfigError(
            f"no key {rest!r}; {perhaps(rest, known)}there are characters, names (up, enter, esc, f1, del,"
            " Numpad1), and ctrl-, alt-, shift- before them"
        )
    return _struck(held, code)


def _struck(held: list[str], code: str) -> list[Strike]:
    return _within(held, [(code, True), (code, False)])


def _within(held: list[str], strikes: list[Strike]) -> list[Strike]:
    down = [(code, True) for code in held]
    return [*down, *strikes, *((code, False) for code in reversed(held))]
