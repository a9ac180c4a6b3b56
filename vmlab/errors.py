"""Every exception that vmlab raises, in one tree.

    VmlabError
    ├── ConfigError                 a machine that cannot be built as asked (memory size, cpus, options)
    ├── KernelError                 a kernel or initrd that cannot be loaded
    ├── EngineError                 a CPU engine failed
    │   └── EngineUnavailable       the engine cannot run on this host
    ├── MemoryAccessError           an address outside the guest's memory
    ├── RegisterTableError          a device's register table contradicts itself (raised at import)
    ├── DeviceFault                 the code of a device raised; the guest is paused at that access
    ├── UnknownName                 no device, console, register or line is called that (a KeyError as well)
    ├── UnknownAttribute            the same of what stands behind a dot (an AttributeError as well)
    ├── StateError                  the machine's state does not allow the call
    ├── ExpectTimeout               the console did not say what was expected in time
    ├── MonitorLost                 the monitor process is gone
    ├── WireError                   a message that does not fit the wire format
    ├── CmdlineError                "unable to add device to kernel command line: ..."
    └── ManagerError                the MMIO device manager's errors, texts as krun-vmm's
        ├── CreateMmioTransport     "failed to create mmio transport for the device ..."
        ├── BusError                "failed to perform bus operation: ..."
        │   └── BusOverlap          "New device overlaps with an old device. ..."
        ├── EventFdError            "failed to create or clone event descriptor: ..."
        ├── IrqsExhausted           "no more IRQs are available"
        ├── WindowsExhausted        "no more windows are available"
        ├── RegisterIoEvent         "failed to register IO event: ..."
        ├── RegisterIrqFd           "failed to register irqfd: ..."
        ├── DeviceNotFound          "the device couldn't be found"
        ├── UpdateFailed            "failed to update the mmio device"
        └── VhostUserDevice         "failed to create vhost-user device: ..."

A mistake of the guest is never an exception: it is an event, counted and shown.
"""

from __future__ import annotations

__all__ = [
    "BusError",
    "BusOverlap",
    "CmdlineError",
    "ConfigError",
    "CreateMmioTransport",
    "DeviceFault",
    "DeviceNotFound",
    "EngineError",
    "EngineUnavailable",
    "EventFdError",
    "ExpectTimeout",
    "IrqsExhausted",
    "KernelError",
    "ManagerError",
    "MemoryAccessError",
    "MonitorLost",
    "RegisterIoEvent",
    "RegisterIrqFd",
    "RegisterTableError",
    "StateError",
    "UnknownAttribute",
    "UnknownName",
    "UpdateFailed",
    "VhostUserDevice",
    "VmlabError",
    "WindowsExhausted",
    "WireError",
]


class VmlabError(Exception):
    """The root of the tree."""

    def _render_traceback_(self) -> list[str]:
        """For IPython: the caller's lines and the news, none of what vmlab did in between."""
        from vmlab.brief import brief  # here: most programs never need it

        return brief(self)


class ConfigError(VmlabError):
    """A machine that cannot be built as asked."""


class KernelError(VmlabError):
    """A kernel or initrd that cannot be loaded."""


class EngineError(VmlabError):
    """A CPU engine failed."""


class EngineUnavailable(EngineError):
    """The engine cannot run on this host; the message says how to change that."""


class MemoryAccessError(VmlabError):
    """An address outside the guest's memory."""


class RegisterTableError(VmlabError):
    """A register table that contradicts itself."""


class DeviceFault(VmlabError):
    """The code of a device raised; `traceback` is its text, `cure` says how the guest goes on."""

    def __init__(self, message: str, device: str = "", traceback: str = "", cure: str = "") -> None:
        super().__init__(message)
        self.device = device
        self.traceback = traceback
        self.cure = cure

    def __str__(self) -> str:
        text = super().__str__() + self.cure
        return f"{text}\n{self.traceback}" if self.traceback else text


class UnknownName(VmlabError, KeyError):
    """Nothing is called that."""

    # a KeyError shows its text in quotes, since it is the key as a rule; here it is a sentence
    __str__ = Exception.__str__


class UnknownAttribute(VmlabError, AttributeError):
    """A device in a machine has nothing that is called that."""


class StateError(VmlabError):
    """The machine's state does not allow the call."""


class ExpectTimeout(VmlabError, TimeoutError):
    """The console did not say what was expected in time."""


class MonitorLost(VmlabError):
    """The monitor process is gone."""


class WireError(VmlabError):
    """A message that does not fit the wire format."""


class _Worded(VmlabError):
    """An error whose text starts with the contract's words."""

    words = ""

    def __init__(self, detail: object = "") -> None:
        self.detail = detail
        super().__init__(f"{self.words}{detail}")


class CmdlineError(VmlabError):
    """The kernel command line cannot take the text."""


class ManagerError(_Worded):
    """The MMIO device manager's errors."""


class CreateMmioTransport(ManagerError):
    words = "failed to create mmio transport for the device "


class BusError(ManagerError):
    words = "failed to perform bus operation: "


class BusOverlap(BusError):
    words = "New device overlaps with an old device."

    def __init__(self, detail: object = "", through: str = "") -> None:
        super().__init__(detail)
        self.args = (through + str(self),)


class EventFdError(ManagerError):
    words = "failed to create or clone event descriptor: "


class _Fixed(ManagerError):
    """Errors whose contract is a whole sentence; a detail follows after a colon."""

    def __init__(self, detail: object = "") -> None:
        super().__init__(f": {detail}" if detail else "")


class IrqsExhausted(_Fixed):
    words = "no more IRQs are available"


class WindowsExhausted(_Fixed):
    words = "no more windows are available"


class RegisterIoEvent(ManagerError):
    words = "failed to register IO event: "


class RegisterIrqFd(ManagerError):
    words = "failed to register irqfd: "


class DeviceNotFound(_Fixed):
    words = "the device couldn't be found"


class UpdateFailed(_Fixed):
    words = "failed to update the mmio device"


class VhostUserDevice(ManagerError):
    words = "failed to create vhost-user device: "
