"""What was probably meant, for messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["meant", "perhaps", "unknown"]

#: names that a message lists
LISTED = 24


def meant(name: object, known: Iterable[str]) -> str:
    """The known name that is near `name`; "" when none is."""
    if not isinstance(name, str):
        return ""
    from difflib import get_close_matches  # here: it is needed for mistakes only

    plain = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), plain, 1, 0.6)
    return plain[near[0]] if near else ""


def perhaps(name: object, known: Iterable[str]) -> str:
    """ "did you mean 'monitor'? ", or nothing."""
    near = meant(name, known)
    return f"did you mean {near!r}? " if near else ""


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """ "no device 'dise0'; did you mean 'dice0'? (there are com1, dice0)"."""
    names = list(known)
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    there = f"there are {', '.join(names[:LISTED])}{more}" if names else "there are none"
    near = meant(name, names)
    shown = repr(name) if isinstance(name, str) else f"{name!r:.60}"
    return f"no {what} {shown}; " + (f"did you mean {near!r}? ({there})" if near else there)
