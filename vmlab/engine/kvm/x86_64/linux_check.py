"""Whether this host's KVM can run an operating system, not just a bare-metal guest.

A KVM inside another machine may emulate what its guests' kernels execute, and not know every instruction
of theirs. A guest of a dozen instructions tries those that Linux cannot do without; the answer is kept
until the host boots anew.
"""

from __future__ import annotations

import functools
import json
import os
import struct
import threading
from pathlib import Path

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig, Stop
from vmlab.errors import VmlabError

__all__ = ["runs_linux"]

#: seconds; it takes some milliseconds
_PATIENCE = 5.0
_CODE, _TABLES, _AREA, _DONE = 0x1000, 0x2000, 0x5000, 0xF4
#: CPL 0, long mode: saves and restores the FPU's state, exchanges 16 bytes, says that it came so far
_PROGRAM = bytes.fromhex(
    "0f20e0"  # mov rax, cr4
    "0d00060000"  # or eax, OSFXSR | OSXMMEXCPT
    "0f22e0"  # mov cr4, rax
    "bf00500000"  # mov edi, _AREA
    "480fae07"  # fxsave64 [rdi]
    "480fae0f"  # fxrstor64 [rdi]
    "f0480fc70f"  # lock cmpxchg16b [rdi]
    "e6f4"  # out _DONE, al
    "f4"  # hlt
)


@functools.cache
def runs_linux() -> tuple[bool, str]:
    """(whether it can, why not in words). KVM itself is there."""
    kept = _kept()
    if kept is not None:
        return kept
    answer = _try()
    _keep(answer)
    return answer


class _Ports:
    """The guest's ports: one of them matters."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.trouble = ""

    def read(self, address: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        if address == _DONE:
            self.over.set()

    def stopped(self, cpu: int, stop: Stop) -> None:
        self.trouble = stop.text.partition(", data")[0]
        self.over.set()


def _try() -> tuple[bool, str]:
    from vmlab.engine.kvm.engine import KvmEngine

    memory, ports = GuestMemory.allocate(1 << 20), _Ports()
    try:
        memory.write(_CODE, _PROGRAM)
        # one page of 2 MiB onto itself
        for level, entry in enumerate((_TABLES + 0x1003, _TABLES + 0x2003, 0x83)):
            memory.write(_TABLES + level * 0x1000, struct.pack("<Q", entry))
        engine = KvmEngine(EngineConfig(memory, ports, ports, on_stop=ports.stopped))
        try:
            engine.load(CpuState("long", _CODE, cr3=_TABLES))
            engine.start()
            if not ports.over.wait(_PATIENCE):
                ports.trouble = "its guest did not come to an end"
        finally:
            engine.close()
    except VmlabError as error:
        ports.trouble = str(error)
    finally:
        memory.close()
    if not ports.trouble:
        return True, ""
    return False, f"it cannot execute what Linux needs ({ports.trouble})"


# --- kept until the host boots anew ---------------------------------------------------------------------


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _place() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return root / "vmlab" / "kvm-runs-linux.json"


def _kept() -> tuple[bool, str] | None:
    try:
        found = json.loads(_place().read_text(encoding="utf-8"))
        if found["boot"] and found["boot"] == _boot():
            return bool(found["works"]), str(found["why"])
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):
        pass
    return None


def _keep(answer: tuple[bool, str]) -> None:
    """Where it cannot be written it is asked again."""
    try:
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f"{place.name}.{os.getpid()}")
        text = json.dumps({"boot": _boot(), "works": answer[0], "why": answer[1]})
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(place)
    except (OSError, RuntimeError):
        pass
