"""What an arm64 guest finds in memory of its machine: the device tree, and ACPI tables for a Linux that takes
them, beside it."""

from __future__ import annotations

from functools import partial

from vmlab.arch.arm64 import ARCH, platform
from vmlab.boot.acpi import arm64 as acpi
from vmlab.boot.arm64.load import Told
from vmlab.boot.fdt import Node, cells, reg, text
from vmlab.core.manager import DeviceInfo, DeviceType
from vmlab.machine.board import Described
from vmlab.machine.board.events import SLOTS, events

__all__ = ["acpi_tables", "told", "tree"]

# phandles
_GIC, _CLOCK, _GPIO = 1, 2, 3
# what an interrupt of the GIC is (three cells: kind, number, trigger)
_SPI, _PPI = 0, 1
_FIRST_SPI, _FIRST_PPI = 32, 16
_EDGE, _LEVEL = 1, 4
#: INTIDs of the generic timer: secure, non-secure physical, virtual, hypervisor's
TIMERS = acpi.Timers(29, 30, 27, 26)
#: Hz, of the PrimeCells' clock
_APB = 24_000_000
#: Linux' code of the power key (input-event-codes.h)
_KEY_POWER = 116
#: the pin of the power key, and that it is active when high
_KEY_PIN = cells(_GPIO, 3, 0)


def told(machine: Described) -> Told:
    serial = machine.windows[DeviceType.SERIAL, "serial"]
    return Told(
        machine.tree or tree(machine),
        "" if machine.tree else f"/uart@{serial.addr:x}",
        partial(acpi_tables, machine) if machine.linux else None,
        platform.CLOCK_BASE,
    )


def tree(machine: Described) -> Node:
    """The device tree, but for /memory and /chosen. Virtio devices that come later are in the tables alone,
    or in windows that were named from the start."""
    return Node(
        "",
        {
            "#address-cells": cells(2),
            "#size-cells": cells(2),
            "compatible": text("linux,dummy-virt"),
            "model": text("vmlab arm64"),
            "interrupt-parent": cells(_GIC),
        },
        [
            _cpus(machine.cpus),
            Node(
                "psci", {"compatible": text("arm,psci-1.0", "arm,psci-0.2"), "method": text("hvc")}
            ),
            Node(
                "timer",
                {
                    "compatible": text("arm,armv8-timer"),
                    "interrupts": cells(
                        *(part for line in TIMERS for part in (_PPI, line - _FIRST_PPI, _LEVEL))
                    ),
                    "always-on": b"",
                },
            ),
            _gic(machine),
            Node(
                "apb-pclk",
                {
                    "compatible": text("fixed-clock"),
                    "#clock-cells": cells(0),
                    "clock-frequency": cells(_APB),
                    "clock-output-names": text("clk24mhz"),
                    "phandle": cells(_CLOCK),
                },
            ),
            *_fixed(machine),
            *_virtio(machine),
        ],
    )


def _cpus(count: int) -> Node:
    nodes = [
        Node(
            f"cpu@{number:x}",
            {
                "device_type": text("cpu"),
                "compatible": text("arm,armv8"),
                "reg": cells(number),
                "enable-method": text("psci"),
            },
        )
        for number in range(count)
    ]
    return Node("cpus", {"#address-cells": cells(1), "#size-cells": cells(0)}, nodes)


def _gic(machine: Described) -> Node:
    distributor, cpus, size = _gic_places(machine)
    whole = 0x1000 if machine.gic == 2 else 0x1_0000
    return Node(
        f"intc@{distributor:x}",
        {
            "compatible": text("arm,gic-400" if machine.gic == 2 else "arm,gic-v3"),
            "#interrupt-cells": cells(3),
            "#address-cells": cells(0),
            "interrupt-controller": b"",
            "reg": reg(distributor, whole, cpus, size),
            "phandle": cells(_GIC),
        },
    )


def _gic_places(machine: Described) -> tuple[int, int, int]:
    """(the distributor, where the CPUs' part begins, its bytes)"""
    if machine.gic == 2:
        return platform.GICV2_DISTRIBUTOR, platform.GICV2_CPU, 0x2000
    first = platform.redistributors(machine.cpus)
    return platform.GICV3_DISTRIBUTOR, first, platform.GICV3_DISTRIBUTOR - first


def _device(kind: str, info: DeviceInfo, trigger: int, compatible: bytes, **more: bytes) -> Node:
    """A device in a window of the manager's."""
    properties = {"compatible": compatible, "reg": reg(info.addr, info.len)}
    if info.irq is not None:
        properties["interrupts"] = cells(_SPI, info.irq - _FIRST_SPI, trigger)
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return Node(f"{kind}@{info.addr:x}", properties | named)


def _fixed(machine: Described) -> list[Node]:
    """The PrimeCells, which drive levels, and the key at the GPIO block."""
    serial, rtc, gpio = (
        machine.windows[kind, id]
        for kind, id in (
            (DeviceType.SERIAL, "serial"),
            (DeviceType.RTC, "rtc"),
            (DeviceType.GPIO, "gpio"),
        )
    )

    def primecell(name: str) -> bytes:
        return text(f"arm,{name}", "arm,primecell")

    clock = {"clocks": cells(_CLOCK), "clock_names": text("apb_pclk")}
    two = {"clocks": cells(_CLOCK, _CLOCK), "clock_names": text("uartclk", "apb_pclk")}
    pins = {"#gpio-cells": cells(2), "gpio-controller": b"", "phandle": cells(_GPIO)}
    key = {
        "label": text("GPIO Key Poweroff"),
        "linux,code": cells(_KEY_POWER),
        "gpios": _KEY_PIN,
    }
    return [
        _device("uart", serial, _LEVEL, primecell("pl011"), **two),
        _device("rtc", rtc, _LEVEL, primecell("pl031"), **clock),
        _device("gpio", gpio, _LEVEL, primecell("pl061"), **clock, **pins),
        Node("gpio-keys", {"compatible": text("gpio-keys")}, [Node("poweroff", key)]),
    ]


def _virtio(machine: Described) -> list[Node]:
    """Each holds a line of its own, and drives it for controllers that look for edges."""
    return [
        _device("virtio_mmio", info, _EDGE, text("virtio,mmio"), dma_coherent=b"")
        for (kind, _), info in sorted(machine.windows.items(), key=lambda one: one[1].addr)
        if kind.name == "Virtio"
    ]


def acpi_tables(machine: Described, base: int) -> bytes:
    """For the address `base`."""
    distributor, cpus, size = _gic_places(machine)
    serial = machine.windows[DeviceType.SERIAL, "serial"]
    assert serial.irq is not None
    where = platform.HOTPLUG_BASE, platform.HOTPLUG_IRQ, platform.POWER_IRQ
    return acpi.build(
        acpi.Facts(
            machine.cpus,
            machine.gic,
            distributor,
            cpus,
            size,
            TIMERS,
            serial.addr,
            serial.irq,
            events(ARCH, *where, 0 if machine.slots else SLOTS),
        ),
        base,
    )
