"""The registers of the virtio-mmio transport (virtio 1.2 §4.2.2), and the bits that it deals in."""

from __future__ import annotations

from vmlab.regs import Registers, bit, block, pair64, ro, rw, wo

MAGIC = 0x7472_6976
CONFIG = 0x100
# feature bits of the ring and the transport (§6)
RING_INDIRECT_DESC, RING_EVENT_IDX, VERSION_1, RING_RESET = 1 << 28, 1 << 29, 1 << 32, 1 << 40
TRANSPORT_FEATURES = RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1 | RING_RESET
# Status (§2.1) and InterruptStatus (§4.2.2), as plain numbers for the path of a request
DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 2, 4, 8, 64, 128
#: the bits that a driver may set
DRIVERS = 1 | DRIVER | DRIVER_OK | FEATURES_OK | FAILED
USED_BUFFER, CONFIG_CHANGE = 1, 2
#: queues that a device can have: one bank of the queue registers each
MAX_QUEUES = 64
_PER_QUEUE = ("QueueSel", MAX_QUEUES)


_HOW_FAR = "how far the driver is; 0 resets the device"
#: fields of Status in either version
_STATUS = {
    "ACKNOWLEDGE": bit(0, "the guest has seen the device"),
    "DRIVER": bit(1, "it knows how to drive it"),
    "DRIVER_OK": bit(2, "it drives it"),
}
_FAILED = bit(7, "the driver has given up")


class CommonRegisters(Registers, strict=True):
    """What both versions have in the same place."""

    MagicValue = ro(0x000, '"virt"', reset=MAGIC, spec="virtio 1.2 §4.2.2")
    DeviceID = ro(0x008, "what device it is; 0: a placeholder, nothing is here")
    VendorID = ro(0x00C, "who made it")
    QueueSel = wo(0x030, "the queue that the queue registers speak of")
    QueueNumMax = ro(0x034, "the most entries that the queue can have; 0: no such queue")
    QueueNum = wo(0x038, "the entries that it has", banked_by=_PER_QUEUE)
    QueueNotify = wo(0x050, "there is something in the queue of this index")
    InterruptStatus = ro(
        0x060,
        "why the device interrupts",
        USED_BUFFER=bit(0, "a request is done"),
        CONFIG_CHANGE=bit(1, "the configuration space has changed"),
    )
    InterruptACK = wo(0x064, "causes that the driver has dealt with")
    Status = rw(0x070, _HOW_FAR, **_STATUS, FAILED=_FAILED)
    Config = block(CONFIG, 0x1000 - CONFIG, "the device's own configuration space")


class MmioRegisters(CommonRegisters, strict=True):
    """§4.2.2, table 4.1."""

    Version = ro(0x004, "version of the transport", reset=2)
    DeviceFeatures = ro(0x010, "32 of the features that the device offers")
    DeviceFeaturesSel = wo(0x014, "which 32 of them")
    DriverFeatures = wo(0x020, "32 of the features that the driver takes")
    DriverFeaturesSel = wo(0x024, "which 32 of them")
    GuestPageSize = wo(0x028, "version 1's", spec="virtio 1.2 §4.2.4")
    QueueAlign = wo(
        0x03C, "version 1's: a driver that writes it mixes the two", spec="virtio 1.2 §4.2.4"
    )
    QueuePFN = wo(0x040, "version 1's", spec="virtio 1.2 §4.2.4")
    QueueReady = rw(0x044, "1: the queue is set up")
    Status = rw(
        0x070,
        _HOW_FAR,
        **_STATUS,
        FEATURES_OK=bit(3, "the features are agreed on"),
        DEVICE_NEEDS_RESET=bit(6, "the device cannot go on; it alone sets this"),
        FAILED=_FAILED,
    )
    QueueDesc = pair64(
        0x080, "guest-physical address of the descriptor table", banked_by=_PER_QUEUE
    )
    QueueDriver = pair64(0x090, "of the driver area", banked_by=_PER_QUEUE)
    QueueDevice = pair64(0x0A0, "of the device area", banked_by=_PER_QUEUE)
    SHMSel = wo(0x0AC, "the shared memory region that the next two speak of")
    SHMLenLow = ro(0x0B0, "its length; all ones: no such region", reset=0xFFFF_FFFF)
    SHMLenHigh = ro(0x0B4, "", reset=0xFFFF_FFFF)
    SHMBaseLow = ro(0x0B8, "its address", reset=0xFFFF_FFFF)
    SHMBaseHigh = ro(0x0BC, "", reset=0xFFFF_FFFF)
    QueueReset = rw(0x0C0, "1 takes the queue back to its start")
    ConfigGeneration = ro(0x0FC, "changes with the configuration space")


class LegacyRegisters(CommonRegisters, strict=True):
    """§4.2.4, table 4.2: version 1."""

    Version = ro(0x004, "version of the transport", reset=1, spec="virtio 1.2 §4.2.4")
    HostFeatures = ro(0x010, "32 of the features that the device offers")
    HostFeaturesSel = wo(0x014, "which 32 of them")
    GuestFeatures = wo(0x020, "32 of the features that the driver takes")
    GuestFeaturesSel = wo(0x024, "which 32 of them")
    GuestPageSize = wo(0x028, "the unit of QueuePFN, in bytes")
    QueueAlign = wo(0x03C, "where the used ring begins: a multiple of this", banked_by=_PER_QUEUE)
    QueuePFN = rw(0x040, "the queue's first page; 0: it is not in use")
    QueueReady = wo(
        0x044, "version 2's: a driver that writes it mixes the two", spec="virtio 1.2 §4.2.2"
    )


def status_words(status: int) -> str:
    """ACKNOWLEDGE|DRIVER|..., as the specification writes them."""
    fields = MmioRegisters.Status.fields
    return "|".join(name for name, mask in fields.items() if status & mask) or "0"
