"""Words about what a user's code has made: whatever it is, of any size, and whatever its methods do.

An exception whose `__str__` raises, forty megabytes of text, a lone surrogate (file names may have them):
all of it must reach whoever asks as text that can be shown, encoded and sent.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["named", "report", "short", "shown", "text_of", "trace_of"]

#: characters of one value or message; who reads it reads no more
TEXT = 2_000
#: characters of a traceback: its beginning and its end
TRACE = 32_000


def short(text: str, most: int = TEXT) -> str:
    """`text` as every encoding can carry it; of a long one, its beginning, its end and its length."""
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} [... {len(text):,} characters in all ...] {text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


def named(path: object) -> str:
    """A file's name in a message, which is one line: where it holds a line's end, or what cannot be shown, as
    Python writes it."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _tried(call: Callable[[], str], otherwise: str) -> str:
    try:
        return short(str.__str__(call()))
    except BaseException as error:  # noqa: BLE001 - it is a user's code
        return f"<{otherwise} raised {_name(error)}>"


def _name(value: object) -> str:
    # past whatever a metaclass says
    return short(type.__dict__["__name__"].__get__(type(value)))


def shown(value: object) -> str:
    """Its `repr`."""
    return _tried(lambda: repr(value), f"the repr of a {_name(value)}")


def text_of(error: BaseException) -> str:
    """ "ValueError: what it says"; the name alone where it says nothing. And what Python thinks was meant."""
    if isinstance(error, (NameError, AttributeError, ImportError)):
        from vmlab.core.sources import in_words

        return _tried(lambda: in_words(error), "its __str__")
    text = _tried(lambda: str(error), "its __str__")
    return f"{_name(error)}: {text}" if text else _name(error)


def trace_of(error: BaseException) -> str:
    """Its traceback, with what caused it: the frames and the lines of whoever wrote the device."""
    import traceback

    from vmlab.core import sources

    try:
        return short(sources.told(error), TRACE)
    except BaseException:  # noqa: BLE001 - notes and causes are a user's as well
        lines = traceback.format_tb(error.__traceback__)
        return short("".join(lines), TRACE) + text_of(error) + "\n"


def report(error: BaseException) -> None:
    """Tell of what a device's code raised where nobody waits for it; it is lost where nothing can be told."""
    from vmlab.core import sources

    try:
        sources.reporter(trace_of(error))
    except Exception:  # noqa: BLE001 - there is nowhere left to say it
        pass
