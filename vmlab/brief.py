"""What IPython shows of vmlab's errors: the caller's own lines, and the news."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

__all__ = ["brief", "without_ours"]

#: where vmlab's own code is
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def brief(error: BaseException) -> list[str]:
    """The parts of a traceback, as IPython's `_render_traceback_` gives them: without vmlab's frames,
    and without what the error came from inside of it. `%xmode Verbose` shows everything."""
    shell: Any = sys.modules["IPython"].get_ipython()
    shown: Any = error
    trace = error.__traceback__
    if shell.InteractiveTB.mode != "Verbose":
        shown, trace = _alone(error), without_ours(trace)
    parts: list[str] = shell.InteractiveTB.structured_traceback(type(error), shown, trace)
    return parts


def _alone(error: BaseException) -> BaseException:
    """The error without what it came from."""
    made = error.__class__.__new__(error.__class__)
    made.args = error.args
    vars(made).update(vars(error))
    made.__suppress_context__ = True
    return made


def without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The same traceback, vmlab's own frames left out."""
    frames = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OURS):
            frames.append(trace)
        trace = trace.tb_next
    for one in reversed(frames):
        trace = TracebackType(trace, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return trace
