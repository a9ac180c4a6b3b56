"""Old public names: for one version each still works and says its new one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

__all__ = ["Renamed", "RenamedWarning", "renamed"]


class RenamedWarning(FutureWarning):
    """A name of vmlab that goes with the next version. Shown, as every FutureWarning, to whoever runs it."""


def renamed(where: str, names: Mapping[str, str], name: str) -> str | None:
    """The new name of `name`, after a warning that points at who used it; None for one that was never
    renamed. For a module's `__getattr__`."""
    new = names.get(name)
    if new is not None:
        warnings.warn(f"{where}.{name} is now {where}.{new}", RenamedWarning, stacklevel=3)
    return new


class Renamed:
    """The old name of an attribute of a class: `quiet = Renamed("disable_notifications")`."""

    def __init__(self, new: str) -> None:
        self._new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._words = f"{owner.__name__}.{name} is now {owner.__name__}.{self._new}"

    def __get__(self, instance: object, owner: type) -> Any:
        warnings.warn(self._words, RenamedWarning, stacklevel=2)
        return getattr(owner if instance is None else instance, self._new)

    def __set__(self, instance: object, value: object) -> None:
        warnings.warn(self._words, RenamedWarning, stacklevel=2)
        setattr(instance, self._new, value)
