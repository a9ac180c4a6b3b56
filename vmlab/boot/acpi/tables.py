"""The tables that every machine has (ACPI 6.5 §5.2): RSDP, XSDT, FADT and DSDT; a board's own come along.

Hardware-reduced ACPI (§4.1): no legacy interrupt controller, no PM timer, no SCI. Events come by the generic
event device.
"""

from __future__ import annotations

import struct

__all__ = ["HW_REDUCED_ACPI", "build", "fadt"]

_OEM, _CREATOR = b"VMLAB ", b"VLAB"
_FADT_SIZE = 276
#: the FADT's flag (§5.2.9, table 5.10)
HW_REDUCED_ACPI = 1 << 20


def build(
    base: int, name: bytes, code: bytes, fixed: bytearray, *others: tuple[bytes, int, bytes]
) -> bytes:
    """All tables, for the address `base`; the RSDP comes first. name: 8 bytes, the OEM's of these tables;
    code: the DSDT's; fixed: a `fadt`; others: (signature, revision, body) each."""
    blob = bytearray(64)

    def placed(signature: bytes, revision: int, body: bytes) -> int:
        blob.extend(bytes(-len(blob) % 64))
        address = base + len(blob)
        blob.extend(_table(signature, revision, body, name))
        return address

    struct.pack_into("<Q", fixed, 140, placed(b"DSDT", 2, code))  # X_DSDT
    listed = [placed(b"FACP", 6, bytes(fixed[36:])), *(placed(*table) for table in others)]
    root = placed(b"XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed))
    blob[:36] = _rsdp(root)
    return bytes(blob)


def fadt() -> bytearray:
    """§5.2.9, its header's place included. Fields that are not set are zero: hardware that is not there."""
    table = bytearray(_FADT_SIZE)
    table[131] = 5  # minor version: 6.5
    table[268:276] = _OEM.strip().ljust(8, b"\0")  # the hypervisor's vendor
    return table


def _sum(data: bytes | bytearray) -> int:
    """What makes the bytes add up to zero."""
    return -sum(data) & 0xFF


def _table(signature: bytes, revision: int, body: bytes, name: bytes) -> bytes:
    """The header (§5.2.6) and `body`."""
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, _OEM, name, 1, _CREATOR, 1
    )
    whole = bytearray(head + body)
    whole[9] = _sum(whole)
    return bytes(whole)


def _rsdp(xsdt: int) -> bytes:
    """§5.2.5.3: the first 20 bytes have a checksum of their own."""
    whole = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, _OEM, 2, 0, 36, xsdt, 0))
    whole[8] = _sum(whole[:20])
    whole[32] = _sum(whole)
    return bytes(whole)
