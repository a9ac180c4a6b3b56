"""Loading msgspec for less: every first `VM` of a script, and every start of a machine, waits for it."""

from __future__ import annotations

import sys
import threading

__all__ = ["load_msgspec"]


def load_msgspec() -> None:
    """Without typing_extensions, which it prefers, and which loads `inspect`: half of what msgspec costs.
    Since Python 3.11 `typing` has all that it takes from there. Others import typing_extensions as ever: for
    the moment in which that would fail no other thread may be there, else msgspec comes as it is."""
    if "msgspec" in sys.modules or "typing_extensions" in sys.modules:
        return
    if threading.active_count() > 1:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]
