"""The software engine: runs a machine where there is no KVM.

Unicorn executes the guest's instructions; delivering exceptions and interrupts, the interrupt
controllers, the timers and true-sized device accesses are this package's. Importing it does not load
Unicorn, which is an optional dependency (`pip install 'vmlab[soft]'`).
"""

from vmlab.engine.soft.uclib import available

__all__ = ["available"]
