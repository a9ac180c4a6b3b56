"""Which devices can be plugged in from a page, and the fields of their constructors."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin

from vmlab.catalogue import CATALOGUE, class_of, parameters
from vmlab.core.device import Device
from vmlab.core.units import parse_size
from vmlab.errors import ConfigError
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.disk import Disk

__all__ = ["Field", "build", "choices", "fields", "find", "own"]

#: what a form calls the types that a text can stand for
_KINDS: dict[type | None, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    Path: "path",
    str: "text",
}
#: classes of a notebook that are offered
MOST = 50
#: what `VirtioDevice.choose_notify` takes
NOTIFICATIONS = ("ioeventfd", "trap")
#: of what is on, off, or as usual
ON_OFF = ("on", "off")
#: arguments without a default that would do: a disk is of some size, or a file
FILLED: dict[tuple[type, str], str] = {(Disk, "size"): "16M"}


class Field(NamedTuple):
    """An argument of a constructor. kind: "bool", "int", "float", "path", "text", or "" for one that
    no text can stand for. choices: the only texts that it takes, if it says so. filled: what a form has
    there to begin with."""

    name: str
    kind: str
    default: str
    required: bool
    choices: tuple[str, ...] = ()
    filled: str = ""


def namespace() -> Mapping[str, Any]:
    """The notebook's variables; empty outside of one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell.user_ns if shell is not None else {}


def own(names: Mapping[str, Any] | None = None) -> dict[str, type]:
    """The notebook's own device classes by name, newest definition each."""
    found = list((namespace() if names is None else names).items())
    known = [(name, value) for name, value in found if not name.startswith("_") and _is_own(value)]
    return dict(known[:MOST])


def choices(names: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """What can be plugged in: the catalogue, then the notebook's own classes."""
    found = [("", name) for name in CATALOGUE] + [("notebook", name) for name in own(names)]
    result = []
    for where, name in found:
        try:
            cls = find(name, names) if where else cast("type", class_of(name))
            result.append(
                {
                    "name": name,
                    "where": where,
                    "about": _about(cls),
                    "base": cls.__name__.lower(),
                    "fields": [one._asdict() for one in fields(cls)],
                }
            )
        except Exception as error:  # noqa: BLE001 - a class of the user's with a signature that cannot be read
            result.append(
                {"name": name, "where": where, "about": str(error), "base": "", "fields": []}
            )
    return result


def _is_own(value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, (Device, VirtioDevice))
        and not value.__module__.startswith("vmlab.")
    )


def _about(cls: type) -> str:
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    return text.partition("\n")[0]


def find(name: str, names: Mapping[str, Any] | None = None) -> type:
    """The class of that name: the notebook's, else the catalogue's. ConfigError when there is none."""
    own = namespace() if names is None else names
    value = own.get(name)
    if isinstance(value, type) and _is_own(value):
        return value
    if name in CATALOGUE:
        return cast("type", class_of(name))
    raise ConfigError(f"there is no device {name!r} in the catalogue or in the notebook")


def fields(cls: type) -> list[Field]:
    """A field for each argument of the constructor."""
    found = []
    for one in parameters(cls):
        shown = "" if one.default is None else str(one.default)
        texts, filled = _texts(cls, one.name, one.hint), FILLED.get((cls, one.name), "")
        kind = "text" if texts else _KINDS.get(one.kind, "")
        found.append(Field(one.name, kind, shown, one.required, texts, filled))
    return found


def _texts(cls: type, key: str, annotation: Any) -> tuple[str, ...]:
    """The texts to choose from: of a Literal, and of the one argument that all virtio devices have."""
    if get_origin(annotation) is Literal:
        return tuple(one for one in get_args(annotation) if isinstance(one, str))
    if set(get_args(annotation)) == {bool, type(None)}:
        return ON_OFF
    return NOTIFICATIONS if key == "notify" and issubclass(cls, VirtioDevice) else ()


def build(cls: type, texts: Mapping[str, Any]) -> Any:
    """An instance made from what a form says: texts, or booleans; an empty text is the default."""
    known = {one.name: one for one in fields(cls)}
    given = {}
    for key, text in texts.items():
        if key not in known:
            raise ConfigError(f"{cls.__name__} has no option {key!r}")
        if isinstance(text, bool) or (isinstance(text, str) and text.strip()):
            given[key] = _convert(known[key], text)
    for one in known.values():
        if one.required and one.name not in given:
            hint = "; make it in a cell: vm.hot_add(...)" if not one.kind else ""
            raise ConfigError(f"{cls.__name__} needs {one.name}{hint}")
    return cls(**given)


def _convert(one: Field, text: str | bool) -> Any:
    if one.kind == "bool" or one.choices == ON_OFF:
        return text is True or str(text).strip().lower() in ("on", "yes", "true", "1")
    word = str(text).strip()
    try:
        if one.kind == "int":
            return -parse_size(word[1:]) if word.startswith("-") else parse_size(word)
        if one.kind == "float":
            return float(word)
    except (ConfigError, ValueError):
        raise ConfigError(f"{one.name}: {word!r} is no number; write 6, 0x10 or 64K") from None
    if one.kind == "path":
        return Path(word)
    if one.kind == "text":
        return str(text)
    raise ConfigError(f"{one.name} cannot be written in a form; make the device in a cell")
