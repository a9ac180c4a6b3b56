"""CPU engines, and the choice between them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from vmlab.arch import DEFAULT, host
from vmlab.engine.api import Engine, EngineConfig
from vmlab.errors import ConfigError, EngineUnavailable
from vmlab.hints import perhaps

__all__ = ["ENGINES", "OVERRIDE", "Kind", "available", "choose", "create", "runs_linux"]


class Kind(NamedTuple):
    """An engine: the module that has `available()`, and "module:Class" of each architecture that it runs."""

    module: str
    classes: Mapping[str, str]

    @property
    def loaded(self) -> Any:
        return import_module(self.module)

    def create(self, config: EngineConfig) -> Engine:
        module, _, name = self.classes[config.arch].partition(":")
        made: Engine = getattr(import_module(module), name)(config)
        return made


#: what "auto" tries, in this order
ENGINES = {
    "kvm": Kind(
        "vmlab.engine.kvm",
        dict.fromkeys(("x86_64", "arm64"), "vmlab.engine.kvm:KvmEngine"),
    ),
    "soft": Kind(
        "vmlab.engine.soft",
        {
            "x86_64": "vmlab.engine.soft.x86_64.engine:X86Engine",
            "arm64": "vmlab.engine.soft.arm64.engine:ArmEngine",
            **dict.fromkeys(("riscv64", "riscv32"), "vmlab.engine.soft.riscv.engine:RiscvEngine"),
        },
    ),
}
#: the environment variable that stands in for "auto"
OVERRIDE = "VMLAB_ENGINE"


def available(name: str, arch: str = DEFAULT) -> tuple[bool, str]:
    """Whether the engine runs guests of `arch` on this host, and why not."""
    loaded = ENGINES[name].loaded
    found: tuple[bool, str] = loaded.available(arch=arch) if name == "kvm" else loaded.available()
    return found


def runs_linux(name: str, arch: str = DEFAULT) -> tuple[bool, str]:
    """`available`, and whether the engine's CPU is enough for a Linux kernel."""
    works, why = available(name, arch)
    if works and name == "kvm" and arch == "x86_64":
        from vmlab.engine.kvm.x86_64 import linux_check

        enough, trouble = linux_check.runs_linux()
        if not enough:
            return False, f"/dev/kvm opens, but {trouble}"
    return works, why


def choose(wanted: str = "auto", linux: bool = False, arch: str = DEFAULT) -> tuple[str, str]:
    """(engine, why it was chosen). EngineUnavailable when the wanted one, or every one, cannot run.
    linux: the guest is a Linux kernel, for which not every KVM is enough. arch: the guest's.

    VMLAB_ENGINE says what "auto" is, for guests that it runs: "kvm" or "soft"; an engine that is asked for by
    name stays."""
    able = runs_linux if linux else available
    reason = "asked for"
    if wanted == "auto":
        wanted, reason = os.environ.get(OVERRIDE) or "auto", f"{OVERRIDE} says so"
        if wanted == "kvm" and arch != host():
            wanted = "auto"  # it says what is to be taken of those that can
        if wanted not in ("auto", *ENGINES):
            hint = perhaps(wanted, ("auto", *ENGINES))
            raise ConfigError(
                f"{OVERRIDE}={wanted}: no such engine; {hint}there are auto, kvm and soft"
            )
    if wanted != "auto":
        if arch not in ENGINES[wanted].classes:
            raise EngineUnavailable(f"engine {wanted!r} runs no {arch} guests")
        works, why = able(wanted, arch)
        if not works:
            what = "run Linux" if linux and available(wanted, arch)[0] else "run"
            hint = "; engine='soft' can" if what != "run" else ""
            raise EngineUnavailable(f"engine {wanted!r} cannot {what} here: {why}{hint}")
        return wanted, reason
    fitting = [name for name, kind in ENGINES.items() if arch in kind.classes]
    if not fitting:
        raise EngineUnavailable(f"no engine runs {arch} guests")
    whys: dict[str, str] = {}
    for name in fitting:
        works, why = able(name, arch)
        if works:
            return name, _reason(name, linux, whys)
        whys[name] = why
    raise EngineUnavailable(
        f"no engine can run here. {'. '.join(f'{name}: {why}' for name, why in whys.items())}"
    )


def _reason(name: str, linux: bool, whys: dict[str, str]) -> str:
    """whys: why those before it could not be taken."""
    if name == "kvm":
        return "/dev/kvm works"
    return f"no KVM{' for Linux' * linux}: {whys['kvm']}" if "kvm" in whys else "it runs anywhere"


def create(name: str, config: EngineConfig) -> Engine:
    """EngineUnavailable: it does not run the config's architecture."""
    if config.arch not in ENGINES[name].classes:
        raise EngineUnavailable(f"engine {name!r} runs no {config.arch} guests")
    return ENGINES[name].create(config)
