"""Old public names: for one version each still works and says its new one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

__all__ = ["RenamedWarning", "renamed"]


class RenamedWarning(FutureWarning):
    """A name of vmlab that goes with the next version. Shown, as every FutureWarning, to whoever runs it."""


def renamed(where: str, names: Mapping[str, str], name: str) -> str | None:
    """The new name of `name`, after a warning that points at who used it; None for one that was never
    renamed. For a module's `__getattr__`."""
    new = names.get(name)
    if new is not None:
        warnings.warn(f"{where}.{name} is now {where}.{new}", RenamedWarning, stacklevel=3)
    return new
