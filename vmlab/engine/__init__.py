"""CPU engines, and the choice between them."""

from __future__ import annotations

from vmlab.engine.api import Engine, EngineConfig
from vmlab.errors import EngineUnavailable

__all__ = ["ENGINES", "available", "choose", "create"]

ENGINES = ("kvm", "soft")


def available(name: str) -> tuple[bool, str]:
    """Whether the engine runs on this host, and why not."""
    if name == "kvm":
        from vmlab.engine import kvm

        return kvm.available()
    from vmlab.engine import soft

    return soft.available()


def choose(wanted: str = "auto") -> tuple[str, str]:
    """(engine, why it was chosen). EngineUnavailable when the wanted one, or every one, cannot run."""
    if wanted != "auto":
        works, why = available(wanted)
        if not works:
            raise EngineUnavailable(f"engine {wanted!r} cannot run here: {why}")
        return wanted, "asked for"
    works, why_not_kvm = available("kvm")
    if works:
        return "kvm", "/dev/kvm works"
    works, why_not_soft = available("soft")
    if works:
        return "soft", f"no KVM: {why_not_kvm}"
    raise EngineUnavailable(f"no engine can run here. kvm: {why_not_kvm}. soft: {why_not_soft}")


def create(name: str, config: EngineConfig) -> Engine:
    if name == "kvm":
        from vmlab.engine.kvm import KvmEngine

        return KvmEngine(config)
    from vmlab.engine.soft import SoftEngine

    return SoftEngine(config)
