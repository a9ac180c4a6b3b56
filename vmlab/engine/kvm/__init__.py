"""The engine for hosts with /dev/kvm (x86_64 Linux)."""

from vmlab.engine.kvm.engine import KvmEngine
from vmlab.engine.kvm.probe import available

__all__ = ["KvmEngine", "available"]
