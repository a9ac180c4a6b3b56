"""What went wrong in somebody's device, told with that person's own lines.

The code of a device comes from a notebook's cell, a prompt or a script, and runs in another process,
which may have no such file, or a newer one. So the lines travel with the device (`gather`, `keep`), and
a traceback shows them, under the name that the author knows, without what vmlab ran in between (`told`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traceback import FrameSummary, TracebackException

__all__ = ["Sources", "gather", "in_words", "keep", "place_of", "reporter", "told"]

#: file -> (the name that people know it by, its first line here, lines)
Sources = dict[str, tuple[str, int, list[str]]]

#: characters of source that travel with one device; a module that is longer is left to its file
MOST = 1 << 20
#: lines that decorators may take before a `def`
DECORATORS = 16
#: frames that are shown of one exception: the outermost, and those next to where it was raised
OUTER, INNER = 10, 30
#: where vmlab's own code is
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: names of files that came with a device, as `Sources` has them
_shown: dict[str, str] = {}


def gather(codes: Iterable[CodeType]) -> Sources:
    """The lines of these functions, as this process has them now."""
    import linecache  # here and below: most monitor processes never need it

    spans: dict[str, list[int]] = {}
    for code in codes:
        spans.setdefault(code.co_filename, []).extend(_lines(code))
    found: Sources = {}
    room = MOST
    for name, numbers in spans.items():
        first, last = min(numbers), max(numbers)
        lines = linecache.getlines(name)[first - 1 : last]
        room -= sum(map(len, lines))
        if lines and room >= 0:
            found[name] = (_name(name), first, lines)
    return found


def _lines(code: CodeType) -> Iterator[int]:
    yield code.co_firstlineno
    yield from (line for _, _, line in code.co_lines() if line)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _lines(constant)


def keep(sources: Sources) -> None:
    """From now on tracebacks of this process have these lines."""
    import linecache

    for name, (shown, first, lines) in sources.items():
        whole = ["\n"] * (first - 1) + lines
        # without a time of change: nothing asks the file whether it is newer
        linecache.cache[name] = (sum(map(len, whole)), None, whole, name)
        _shown[name] = shown


def _name(file: str) -> str:
    """A cell as its notebook numbers it; else the file's name."""
    if file in _shown:
        return _shown[file]
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    naming = getattr(getattr(shell, "compile", None), "format_code_name", None)
    known = naming(file) if naming is not None else None
    return str(known[1]) if known else file


def place_of(function: Any) -> str:
    """Where a function is written: "In[3], line 7"; "" for what is written nowhere."""
    code = getattr(function, "__code__", None)
    return f"{_name(code.co_filename)}, line {_def_line(code)}" if code is not None else ""


def _def_line(code: CodeType) -> int:
    """The line of its `def`: what Python calls its first may be a decorator's."""
    import linecache

    for number in range(code.co_firstlineno, code.co_firstlineno + DECORATORS):
        if linecache.getline(code.co_filename, number).lstrip().startswith(("def ", "async def ")):
            return number
    return code.co_firstlineno


def in_words(error: BaseException) -> str:
    """The last line of its traceback: the type, the text, and what Python thinks was meant."""
    from traceback import TracebackException

    from vmlab.core.values import mended

    mended(error)

    return "".join(TracebackException.from_exception(error).format_exception_only()).strip()


def told(error: BaseException) -> str:
    """The traceback of what a device's code raised: its author's frames. All frames where there are
    none of an author's, for then the fault is vmlab's."""
    from traceback import TracebackException

    from vmlab.core.values import mended

    mended(error)
    whole = TracebackException.from_exception(error)
    linked = list(_linked(whole))
    handler = getattr(error, "vmlab_handler", None)
    if handler is not None:
        _stand_in(whole, handler)
    elif not any(_is_theirs(frame) for one in linked for frame in one.stack or ()):
        return "".join(whole.format())
    for one in linked:
        _cut(one)
    text = "".join(whole.format())
    for name in {frame.filename for one in linked for frame in one.stack or ()}:
        if name.startswith("In["):
            text = text.replace(f'  File "{name}", line', f"  Cell {name}, line")
    return text


def _write(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)


#: what `safely.report` does with the text; a monitor process sends it to whoever holds the machine
reporter: Callable[[str], object] = _write


def _linked(one: TracebackException | None) -> Iterator[TracebackException]:
    """It, and what it came from and holds."""
    if one is not None:
        yield one
        yield from _linked(one.__cause__)
        yield from _linked(one.__context__)
        for inner in one.exceptions or ():
            yield from _linked(inner)


def _is_theirs(frame: FrameSummary) -> bool:
    return not frame.filename.startswith((_OURS, "<frozen "))


def _stand_in(whole: TracebackException, handler: Any) -> None:
    """What a handler returned is wrong: it is not running any more, but it is what is to be seen."""
    from traceback import FrameSummary, StackSummary

    code = getattr(handler, "__code__", None)
    if code is None:
        return
    whole.stack = StackSummary.from_list(
        [FrameSummary(code.co_filename, _def_line(code), code.co_name)]
    )


def _cut(one: TracebackException) -> None:
    from traceback import StackSummary

    frames = [frame for frame in one.stack or () if _is_theirs(frame)]
    if len(frames) > OUTER + INNER:
        frames = frames[:OUTER] + frames[-INNER:]
    for frame in frames:
        _ = frame.line  # is looked up by the file's true name
        frame.filename = _name(frame.filename)
    if frames:
        one.stack = StackSummary.from_list(frames)
    else:
        one.stack = None  # type: ignore[assignment]  # so that `format` writes no heading
