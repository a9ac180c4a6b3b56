"""What people hold: a machine from outside."""

from __future__ import annotations

from vmlab.vm.vm import VM

__all__ = ["VM"]
