"""The catalogue: which devices a user may ask for by name, what they take, and how text makes one.

A device is imported when it is asked for. To add one: its file, its test, one line here.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

from vmlab.core.units import parse_size
from vmlab.errors import ConfigError
from vmlab.hints import perhaps

__all__ = ["CATALOGUE", "Parameter", "class_of", "make", "options", "parameters"]

#: name -> "module:Class"
CATALOGUE: dict[str, str] = {
    "console": "vmlab.virtio.console:Console",
    "disk": "vmlab.virtio.disk:Disk",
    "net": "vmlab.virtio.nic:Nic",
    "rng": "vmlab.virtio.rng:Rng",
    "timer": "vmlab.devices.timer:Timer",
}

#: the types that a text can stand for, the narrower first
_PLAIN = (bool, int, float, Path, str)

_WORDS = {"on": True, "yes": True, "true": True, "1": True}
_WORDS |= {"off": False, "no": False, "false": False, "0": False}


def make(spec: str) -> tuple[Any, str | None]:
    """(the device that `spec` describes, the id given in it or None). The device is a Device or, which
    this layer knows by name only, a VirtioDevice.

    spec: `name[,key=value][,flag]`, such as `timer,id=t1` or `disk,path=lab.img,readonly`. Keys are the
    arguments of the device's constructor; integers may be hexadecimal or end in K, M, G or T.
    ConfigError says what there is.
    """
    name, more, rest = spec.partition(",")
    name = name.strip()
    known = options(name)
    given: dict[str, Any] = {}
    id: str | None = None
    for item in rest.split(",") if more else ():
        key, equals, text = (part.strip() for part in item.partition("="))
        key = key.replace("-", "_")
        if key == "id":
            if not text:
                raise ConfigError(f"{spec!r}: an id must not be empty")
            id = text
        elif key not in known:
            raise ConfigError(f"device {name} has no option {key!r}; it takes: {_listed(known)}")
        elif key in given:
            raise ConfigError(f"{spec!r}: option {key} is given twice")
        else:
            given[key] = _convert(name, key, known[key].kind or str, text if equals else None)
    for key, parameter in known.items():
        if parameter.required and key not in given:
            raise ConfigError(f"device {name} needs {key}=...; it takes: {_listed(known)}")
    return class_of(name)(**given), id


def options(name: str) -> dict[str, Parameter]:
    """What the device's constructor takes and a text can say."""
    return {one.name: one for one in parameters(class_of(name)) if one.kind is not None}


class Parameter(NamedTuple):
    """An argument of a device's constructor. hint: its type as it is annotated, else that of its default;
    kind: the type that a text is converted to, None where none can stand for it."""

    name: str
    hint: Any
    kind: type | None
    required: bool
    default: Any = None


def parameters(cls: Callable[..., Any]) -> list[Parameter]:
    """In their order; *args and **kwargs are none. TypeError, ValueError where there is no signature."""
    init = inspect.getattr_static(cls, "__init__")
    if init is object.__init__:
        return []
    try:
        hints = get_type_hints(init)
    except Exception:  # noqa: BLE001 - an annotation may name what is not there
        hints = {}
    found = []
    for key, one in list(inspect.signature(init).parameters.items())[1:]:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        required = one.default is one.empty
        default = None if required else one.default
        hint = hints.get(key, str if default is None else type(default))
        found.append(Parameter(key, hint, _plain(hint), required, default))
    return found


def class_of(name: str) -> Callable[..., Any]:
    """The class of the device of that name; ConfigError, which says what there is, for none."""
    if name not in CATALOGUE:
        hint = perhaps(name, CATALOGUE)
        raise ConfigError(
            f"there is no device {name!r}; {hint}there are: {', '.join(sorted(CATALOGUE))}"
        )
    module, _, attribute = CATALOGUE[name].partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), attribute))


def _plain(annotation: Any) -> type | None:
    """The type that a text is converted to, or None where none can stand for the argument."""
    choices = (
        get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    )
    if Any in choices:
        return str
    return next((kind for kind in _PLAIN if kind in choices), None)


def _listed(known: dict[str, Parameter]) -> str:
    return ", ".join(["id", *known])


def _convert(name: str, key: str, kind: type, text: str | None) -> Any:
    if kind is bool:
        if text is None:
            return True
        if text.lower() not in _WORDS:
            raise ConfigError(f"device {name}: {key} is on or off, not {text!r}")
        return _WORDS[text.lower()]
    if not text:
        raise ConfigError(f"device {name}: {key} needs a value, {key}=...")
    try:
        return parse_size(text) if kind is int else kind(text)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"device {name}: {key}: {error}") from error
