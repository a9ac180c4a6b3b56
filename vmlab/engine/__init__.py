"""CPU engines, and the choice between them."""

from __future__ import annotations

import os

from vmlab import arch
from vmlab.engine.api import Engine, EngineConfig
from vmlab.errors import ConfigError, EngineUnavailable
from vmlab.hints import perhaps

__all__ = ["ENGINES", "OVERRIDE", "available", "choose", "create", "runs_linux"]

ENGINES = ("kvm", "soft")
#: the environment variable that stands in for "auto"
OVERRIDE = "VMLAB_ENGINE"


def available(name: str) -> tuple[bool, str]:
    """Whether the engine runs on this host, and why not."""
    if name == "kvm":
        from vmlab.engine import kvm

        return kvm.available()
    from vmlab.engine import soft

    return soft.available()


def runs_linux(name: str) -> tuple[bool, str]:
    """`available`, and whether the engine's CPU is enough for a Linux kernel."""
    works, why = available(name)
    if works and name == "kvm":
        from vmlab.engine.kvm import linux_check as suits

        enough, trouble = suits.runs_linux()
        if not enough:
            return False, f"/dev/kvm opens, but {trouble}"
    return works, why


def choose(wanted: str = "auto", linux: bool = False) -> tuple[str, str]:
    """(engine, why it was chosen). EngineUnavailable when the wanted one, or every one, cannot run.
    linux: the guest is a Linux kernel, for which not every KVM is enough.

    VMLAB_ENGINE says what "auto" is: "kvm" or "soft"; an engine that is asked for by name stays."""
    able = runs_linux if linux else available
    reason = "asked for"
    if wanted == "auto":
        wanted, reason = os.environ.get(OVERRIDE) or "auto", f"{OVERRIDE} says so"
        if wanted not in ("auto", *ENGINES):
            hint = perhaps(wanted, ("auto", *ENGINES))
            raise ConfigError(
                f"{OVERRIDE}={wanted}: no such engine; {hint}there are auto, kvm and soft"
            )
    if wanted != "auto":
        works, why = able(wanted)
        if not works:
            what = "run Linux" if linux and available(wanted)[0] else "run"
            hint = "; engine='soft' can" if what != "run" else ""
            raise EngineUnavailable(f"engine {wanted!r} cannot {what} here: {why}{hint}")
        return wanted, reason
    works, why_not_kvm = able("kvm")
    if works:
        return "kvm", "/dev/kvm works"
    works, why_not_soft = able("soft")
    if works:
        return "soft", f"no KVM{' for Linux' * linux}: {why_not_kvm}"
    raise EngineUnavailable(f"no engine can run here. kvm: {why_not_kvm}. soft: {why_not_soft}")


def create(name: str, config: EngineConfig) -> Engine:
    """The engine for the config's architecture. EngineUnavailable: it cannot run that one."""
    if name == "kvm":
        if config.arch != arch.host():
            raise EngineUnavailable(
                f"KVM runs guests of this host's architecture, {arch.host()}, and not of {config.arch};"
                " engine='soft' can"
            )
        from vmlab.engine.kvm import KvmEngine

        return KvmEngine(config)
    if config.arch == "arm64":
        from vmlab.engine.soft.arm64.engine import ArmEngine

        return ArmEngine(config)
    if config.arch != "x86_64":
        raise EngineUnavailable(f"engine 'soft' runs x86_64 and arm64, not {config.arch}")
    from vmlab.engine.soft import SoftEngine

    return SoftEngine(config)
