"""The engine for hosts with /dev/kvm (Linux on x86_64 or arm64)."""

from vmlab.engine.kvm.engine import KvmEngine
from vmlab.engine.kvm.probe import available

__all__ = ["KvmEngine", "available"]
