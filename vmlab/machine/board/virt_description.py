"""The device tree of the RISC-V machines "virt" and "krun"."""

from __future__ import annotations

from typing import NamedTuple

from vmlab.arch.riscv64 import platform
from vmlab.boot.fdt import Node, cells, reg, text
from vmlab.boot.riscv.load import Told
from vmlab.core.manager import DeviceInfo, DeviceType
from vmlab.devices.riscv import finisher
from vmlab.machine.board import Described

__all__ = ["Places", "told", "tree"]

# phandles: the PLIC, the finisher, and from here on the harts' interrupt controllers
_PLIC, _FINISHER, _HARTS = 1, 2, 3
#: and the harts themselves
_CPUS = 0x20
# interrupts at a hart's controller (Privileged Architecture, table of mcause)
_SOFT_M, _TIMER_M, _EXTERNAL_M, _EXTERNAL_S = 3, 7, 11, 9
#: Hz, of the UART's clock
_UART_CLOCK = 3_686_400
_ISA = "rv{}imafdc_zicntr_zicsr_zifencei"


class Places(NamedTuple):
    """What differs between the boards: where the serial port lies, and the lines of that and the clock."""

    uart: int = platform.UART_BASE
    uart_irq: int = platform.UART_IRQ
    rtc_irq: int = platform.RTC_IRQ


def told(machine: Described, at: Places = Places()) -> Told:  # noqa: B008  it cannot be changed
    return Told(
        machine.tree or tree(machine, at),
        "" if machine.tree else f"/soc/serial@{at.uart:x}",
        at.uart,
        machine.firmware,
    )


def tree(machine: Described, at: Places = Places()) -> Node:  # noqa: B008
    """The device tree, but for /memory and /chosen."""
    return Node(
        "",
        {
            "#address-cells": cells(2),
            "#size-cells": cells(2),
            "compatible": text("riscv-virtio"),
            "model": text("riscv-virtio,vmlab"),
        },
        [
            _cpus(machine),
            Node(
                "soc",
                {
                    "#address-cells": cells(2),
                    "#size-cells": cells(2),
                    "compatible": text("simple-bus"),
                    "ranges": b"",
                },
                [*_controllers(machine.cpus), *_devices(at), *_virtio(machine), *_own(machine)],
            ),
            _by_finisher("poweroff", finisher.PASS),
            _by_finisher("reboot", finisher.RESET),
        ],
    )


def _cpus(machine: Described) -> Node:
    bits = 32 if machine.arch == "riscv32" else 64
    harts = [
        Node(
            f"cpu@{number:x}",
            {
                "device_type": text("cpu"),
                "compatible": text("riscv"),
                "reg": cells(number),
                "status": text("okay"),
                "riscv,isa": text(_ISA.format(bits)),
                "phandle": cells(_CPUS + number),
                "mmu-type": text("riscv,sv32" if bits == 32 else "riscv,sv57"),
            },
            [
                Node(
                    "interrupt-controller",
                    {
                        "#address-cells": cells(0),
                        "#interrupt-cells": cells(1),
                        "interrupt-controller": b"",
                        "compatible": text("riscv,cpu-intc"),
                        "phandle": cells(_HARTS + number),
                    },
                )
            ],
        )
        for number in range(machine.cpus)
    ]
    return Node(
        "cpus",
        {
            "#address-cells": cells(1),
            "#size-cells": cells(0),
            "timebase-frequency": cells(platform.TICK_HZ),
        },
        [*harts, Node("cpu-map", {}, [Node("cluster0", {}, _cores(machine.cpus))])],
    )


def _cores(harts: int) -> list[Node]:
    """As QEMU says it: firmware counts harts there."""
    return [Node(f"core{n:x}", {"cpu": cells(_CPUS + n)}) for n in range(harts)]


def _controllers(harts: int) -> list[Node]:
    def each(*lines: int) -> bytes:
        return cells(*(part for n in range(harts) for line in lines for part in (_HARTS + n, line)))

    return [
        Node(
            f"clint@{platform.CLINT_BASE:x}",
            {
                "compatible": text("sifive,clint0", "riscv,clint0"),
                "reg": reg(platform.CLINT_BASE, platform.CLINT_SIZE),
                "interrupts-extended": each(_SOFT_M, _TIMER_M),
            },
        ),
        Node(
            f"plic@{platform.PLIC_BASE:x}",
            {
                "compatible": text("sifive,plic-1.0.0", "riscv,plic0"),
                "reg": reg(platform.PLIC_BASE, platform.PLIC_SIZE),
                "interrupts-extended": each(_EXTERNAL_M, _EXTERNAL_S),
                "interrupt-controller": b"",
                "#interrupt-cells": cells(1),
                "#address-cells": cells(0),
                "riscv,ndev": cells(platform.LAST_LINE),
                "phandle": cells(_PLIC),
            },
        ),
    ]


def _device(
    kind: str, base: int, size: int, compatible: bytes, irq: int | None, **more: bytes
) -> Node:
    properties = {"compatible": compatible, "reg": reg(base, size)}
    if irq is not None:
        properties |= {"interrupts": cells(irq), "interrupt-parent": cells(_PLIC)}
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return Node(f"{kind}@{base:x}", properties | named)


def _devices(at: Places) -> list[Node]:
    clock = cells(_UART_CLOCK)
    test = text("sifive,test1", "sifive,test0", "syscon")
    return [
        _device("serial", at.uart, 0x100, text("ns16550a"), at.uart_irq, clock_frequency=clock),
        _device("rtc", platform.RTC_BASE, 0x1000, text("google,goldfish-rtc"), at.rtc_irq),
        _device("test", platform.FINISHER_BASE, 0x1000, test, None, phandle=cells(_FINISHER)),
    ]


def _by_finisher(name: str, value: int) -> Node:
    return Node(
        name,
        {
            "compatible": text(f"syscon-{name}"),
            "regmap": cells(_FINISHER),
            "offset": cells(0),
            "value": cells(value),
        },
    )


def _own(machine: Described) -> list[Node]:
    """Devices of the user's that say what they are."""
    return [
        _device("device", info.addr, info.len, text(machine.compatible[id]), info.irq)
        for (kind, id), info in sorted(machine.windows.items(), key=lambda one: one[1].addr)
        if kind == DeviceType.USER and id in machine.compatible
    ]


def _virtio(machine: Described) -> list[Node]:
    def node(info: DeviceInfo) -> Node:
        return _device("virtio_mmio", info.addr, info.len, text("virtio,mmio"), info.irq)

    return [
        node(info)
        for (kind, _), info in sorted(machine.windows.items(), key=lambda one: one[1].addr)
        if kind.name == "Virtio"
    ]
