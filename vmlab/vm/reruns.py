"""Names that tell VMs apart, and what becomes of a VM when the cell that made it runs again.

`vm = VM(...)`, run a second time, would leave the first machine running with no name to stop it by. So a
new VM stops the one whose only variable it is about to take, and says so; a VM that is held in another
variable, or in a list, is left alone. Outside of a notebook nothing of the kind happens.
"""

from __future__ import annotations

import contextlib
import linecache
import sys
import weakref
from collections.abc import Iterator
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from vmlab.errors import ConfigError
from vmlab.machine.config import ENDED
from vmlab.vm import views
from vmlab.vm.console import Consoles

if TYPE_CHECKING:
    import ast

__all__ = ["christen"]

#: characters of a name
LONGEST = 64
#: names of IPython's own in a notebook's variables
_HISTORY = {"In", "Out"}


class Rerun(Protocol):
    """What of a VM this needs. cell: which run of a notebook's cell has made it, and the cell's text."""

    cell: tuple[int, str]

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def pid(self) -> int | None: ...

    def stop(self) -> None: ...


_all: weakref.WeakSet[Rerun] = weakref.WeakSet()


def christen(vm: Rerun, wanted: str | None, image: str) -> str:
    """The VM's name: the one that is wanted, or the image's, with a number where that is taken."""
    if wanted is not None:
        _check(wanted)
    _make_room(vm)
    taken = {one.name for one in list(_all) if _lives(one)}
    name, number = wanted or image, 1
    while wanted is None and name in taken:
        number += 1
        name = f"{image}-{number}"
    _all.add(vm)
    return name


def _check(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfigError(f"name={name!r:.80}: it must be a text that can be printed")
    if len(name) > LONGEST:
        raise ConfigError(f"a name of {len(name)} characters; at most {LONGEST} fit a view")


def _lives(vm: Rerun) -> bool:
    return vm.state not in ENDED


def _make_room(fresh: Rerun) -> None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return
    with contextlib.suppress(Exception):  # another IPython may have it otherwise
        _let_complete(fresh)
    fresh.cell = run, text = _cell(shell)
    for old in list(_all):
        if old.pid is None or not _lives(old) or old.cell[0] == run:
            continue
        if _is_replaced(old, shell.user_ns):
            old.stop()
            print(f"vmlab: {old.name!r} has been stopped; a new VM takes its variable")
        elif text and old.cell[1] == text:
            print(
                f"vmlab: {old.name!r}, which this cell has made before, runs on beside the new one"
            )


def _let_complete(vm: Rerun) -> None:
    """Have `vm.devices["<tab>` complete: by itself IPython asks no property for its value."""
    limited = import_module("IPython.core.guarded_eval").EVALUATION_POLICIES["limited"]
    limited.allowed_getattr |= {type(vm), views.DeviceView}
    limited.allowed_getitem |= {Consoles, views.Devices, views.IrqTable, views.Traps}


def _cell(shell: Any) -> tuple[int, str]:
    """(which run of a cell this is, its text)."""
    frame = _frame(shell.user_ns)
    text = "".join(linecache.getlines(frame.f_code.co_filename)) if frame is not None else ""
    return shell.execution_count, text


def _frame(names: dict[str, Any]) -> FrameType | None:
    """The cell that is being run, if it is what led here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not (frame.f_globals is names and frame.f_locals is names):
        frame = frame.f_back
    return frame


def _is_replaced(old: Rerun, names: dict[str, Any]) -> bool:
    """Whether nothing but variables hold it that the running statement assigns anew."""
    holding = {name for name, value in names.items() if value is old and name[0] != "_"}
    frame = _frame(names)
    if not holding or frame is None or _is_contained(old, names):
        return False
    import ast  # here and below: for a cell that is run again only

    text = "".join(linecache.getlines(frame.f_code.co_filename))
    try:
        assigned, used = _names(ast.parse(text), frame.f_lineno)
    except SyntaxError:
        return False
    return holding <= assigned - used


def _is_contained(old: Rerun, names: dict[str, Any]) -> bool:
    for name, value in list(names.items()):
        if name[0] == "_" or name in _HISTORY or type(value) not in (list, tuple, set, dict):
            continue
        parts = value.values() if isinstance(value, dict) else value
        if any(one is old for one in list(parts)):
            return True
    return False


def _names(tree: ast.Module, line: int) -> tuple[set[str], set[str]]:
    """(names that the statement at `line` assigns, names that it uses)."""
    import ast

    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line)
    ]
    if not found:
        return set(), set()
    inner = min(found, key=lambda node: (node.end_lineno or 0) - node.lineno)
    parts: list[ast.AST] = list(inner.items) if isinstance(inner, ast.With) else [inner]
    marked = list(_variables(parts))
    return (
        {one.id for one in marked if isinstance(one.ctx, ast.Store)},
        {one.id for one in marked if isinstance(one.ctx, ast.Load)},
    )


def _variables(parts: list[ast.AST]) -> Iterator[ast.Name]:
    import ast

    for part in parts:
        yield from (node for node in ast.walk(part) if isinstance(node, ast.Name))
