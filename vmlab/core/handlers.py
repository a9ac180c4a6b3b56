"""What is wrong with a device's methods: said when its class is made, or where their result is used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import FunctionType
from typing import Any, TypeAlias

from vmlab.core.sources import place_of
from vmlab.errors import RegisterTableError
from vmlab.hints import meant
from vmlab.regs import Register, Registers

__all__ = ["check_class", "check_handlers", "check_methods", "check_names", "no_number"]

#: core.device.Device, which is made of this module
Device: TypeAlias = Any

#: how a kind of handler relates to what the guest may do with the register
_KINDS = {"read": "readable", "write": "writable", "peek": ""}
#: what a handler is called with, and how it is therefore written
_TAKES = {
    ("read", False): ("self",),
    ("peek", False): ("self",),
    ("write", False): ("self", "value"),
    ("read", True): ("self", "offset", "size"),
    ("peek", True): ("self", "offset", "size"),
    ("write", True): ("self", "offset", "size", "value"),
}
#: methods that a device may define, and the machine calls
_CALLED = ("reset", "irq_level", "attached", "detached", "doorbells", "inspect")
#: flags of code objects: *args, **kwargs, a generator, `async def`
_VARARGS, _GENERATOR, _ASYNC = 0x04, 0x20, 0x80 | 0x200


def no_number(handler: Callable[..., Any], kind: str, name: str, value: object) -> TypeError:
    """For a handler that returned what is no register value; its place in the author's code is shown."""
    called = getattr(handler, "__qualname__", repr(handler))
    got = "None (is a `return` missing?)" if value is None else f"{value!r:.60}, a {_kind(value)}"
    error = TypeError(f"{called}, {_role(kind)} of {name}, must return an int; it returned {got}")
    error.vmlab_handler = handler  # type: ignore[attr-defined]  # see `core.sources.told`
    error.__suppress_context__ = True  # as `from None` says, which mypyc does not hear
    return error


def _role(kind: str) -> str:
    return f"the on_{kind}" if kind in _KINDS else f"which serves a {kind}"


def _kind(value: object) -> str:
    return type(value).__name__


def check_class(cls: type[Device]) -> None:
    """RegisterTableError for a table under another name than `regs`, which would be no table."""
    for name, value in vars(cls).items():
        if isinstance(value, type) and issubclass(value, Registers) and "regs" not in vars(cls):
            raise RegisterTableError(
                f"{cls.__qualname__}.{name} is a register table, but a device's is called regs:"
                " class regs(Registers)"
            )
    check_methods(cls, dict.fromkeys(_CALLED, ("self",)))


def check_methods(cls: type, called: Mapping[str, tuple[str, ...]]) -> None:
    """RegisterTableError for a method that cannot be called with what it is given."""
    for name, given in called.items():
        method = vars(cls).get(name)
        if isinstance(method, FunctionType):
            for problem in _problems(method, given):
                raise RegisterTableError(f"{cls.__qualname__}.{name}{_at(method)} {problem}")


def check_names(cls: type[Device], taken: Collection[str]) -> None:
    """RegisterTableError for a handler that has one of the names that every device has `taken`."""
    for method, value in vars(cls).items():
        for kind, register in getattr(value, "_vmlab_handles", ()):
            if method in taken or method in _CALLED:
                raise RegisterTableError(
                    f"{cls.__qualname__}.{method}, the on_{kind} of {register}, would hide Device.{method};"
                    f" call it something else: def {kind}_{register.lower()}(...)"
                )


def check_handlers(cls: type[Device]) -> None:
    """RegisterTableError when a handler names no register, or one that its kind cannot serve, or cannot
    be called as it will be."""
    for (kind, name), method in cls._handlers.items():
        array = cls.regs.arrays.get(name)
        row = cls.regs.by_name.get(array[0] if array else name)
        where = f"{cls.__qualname__}.{method}"
        if row is None:
            near = meant(name, cls.regs.by_name)
            hint = f"; did you mean {near!r}?" if near else ""
            raise RegisterTableError(f"{where} handles {name}, which is no register{hint}")
        if _KINDS[kind] and not getattr(row, _KINDS[kind]):
            raise RegisterTableError(f"{where} handles the {kind} of {name}, which is {row.access}")
        _check_call(where, getattr(cls, method), kind, row, bool(array))
    for row in cls.regs.table:
        if row.offset + row.size > cls.size:
            raise RegisterTableError(
                f"{cls.__qualname__}.{row.name} at {row.offset:#x} lies outside its {cls.size:#x} bytes"
            )


def _check_call(where: str, function: Any, kind: str, row: Register, array: bool) -> None:
    if not isinstance(function, FunctionType):
        return
    first, *others = _TAKES[kind, row.access == "block"]
    for problem in _problems(function, (first, *["index"] * array, *others)):
        raise RegisterTableError(f"{where}{_at(function)}, the on_{kind} of {row.name}, {problem}")


def _at(function: Any) -> str:
    place = place_of(function)
    return f" ({place})" if place else ""


def _problems(function: FunctionType, given: tuple[str, ...]) -> Iterator[str]:
    """What keeps `function` from being called with these arguments."""
    code = function.__code__
    if code.co_flags & _GENERATOR and not code.co_flags & _ASYNC:
        yield "has a `yield` in it; it must return its value"
    if code.co_flags & _ASYNC:
        yield "is `async`; nothing awaits it"
    most = len(given) if code.co_flags & _VARARGS else code.co_argcount
    least = code.co_argcount - len(function.__defaults__ or ())
    needed = code.co_kwonlyargcount - len(function.__kwdefaults__ or {})
    if not least <= len(given) <= most or needed:
        taken = ", ".join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        yield f"takes ({taken}); write it as def {function.__name__}({', '.join(given)})"
