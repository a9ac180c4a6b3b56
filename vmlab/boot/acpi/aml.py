"""A small AML encoder (ACPI 6.5 §20): each function gives the bytes of one term.

Names are ACPI paths as people write them: "\\_SB", "C000.V000", "^PWRB". Terms nest as Python calls do:

    device("COM1", name("_HID", eisa_id("PNP0501")), name("_CRS", resources(io(0x3F8, 8), irq(4))))
"""

from __future__ import annotations

import struct

from vmlab.errors import ConfigError

__all__ = ["add", "and_", "arg", "buffer", "device", "dword_field", "eisa_id", "equal", "field"]
__all__ += [
    "if_",
    "integer",
    "interrupt",
    "io_ports",
    "less",
    "local",
    "memory32",
    "method",
    "name",
]
__all__ += ["notify", "or_", "package", "path", "region", "resources", "return_", "scope", "store"]
__all__ += ["string"]

# address spaces of an operation region (§19.6.100)
SYSTEM_MEMORY, SYSTEM_IO = 0, 1
# access types of a field (§19.6.48)
BYTE_ACCESS, DWORD_ACCESS = 1, 3


def _length(body: bytes) -> bytes:
    """PkgLength (§20.2.4): its own bytes are counted in."""
    for extra in range(4):
        total = len(body) + 1 + extra
        if extra == 0 and total < 64:
            return bytes([total])
        if extra and total < 1 << (4 + 8 * extra):
            return bytes([extra << 6 | total & 0xF]) + (total >> 4).to_bytes(extra, "little")
    raise ConfigError(f"an AML package of {len(body):#x} bytes is too long")


def path(text: str) -> bytes:
    """NameString (§20.2.2): a root or parent prefix, segments of up to four characters."""
    bare = text.lstrip("\\^")
    prefix = text[: len(text) - len(bare)].encode("ascii")
    if not bare:
        return prefix + b"\0"
    segments = bare.split(".")
    for one in segments:
        if not 1 <= len(one) <= 4 or not one.replace("_", "A").isalnum() or one != one.upper():
            raise ConfigError(f"{text!r} is no ACPI name")
    body = b"".join(one.ljust(4, "_").encode("ascii") for one in segments)
    if len(segments) == 1:
        return prefix + body
    count = b"\x2e" if len(segments) == 2 else bytes([0x2F, len(segments)])
    return prefix + count + body


def integer(value: int) -> bytes:
    """The shortest constant that holds `value` (§20.2.3)."""
    if value in (0, 1):
        return bytes([value])
    for opcode, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if 0 <= value < 1 << 8 * size:
            return bytes([opcode]) + value.to_bytes(size, "little")
    raise ConfigError(f"{value:#x} is no 64-bit number")


def string(text: str) -> bytes:
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """EISAID ("PNP0501") as a number (§19.3.4)."""
    letters = [ord(one) - 0x40 & 0x1F for one in text[:3]]
    packed = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return b"\x0c" + struct.pack(">I", packed)


def buffer(data: bytes) -> bytes:
    size = integer(len(data))
    return b"\x11" + _length(size + data) + size + data


def package(*elements: bytes) -> bytes:
    body = bytes([len(elements)]) + b"".join(elements)
    return b"\x12" + _length(body) + body


# --- objects ----------------------------------------------------------------------------------------


def scope(where: str, *terms: bytes) -> bytes:
    body = path(where) + b"".join(terms)
    return b"\x10" + _length(body) + body


def device(which: str, *terms: bytes) -> bytes:
    body = path(which) + b"".join(terms)
    return b"\x5b\x82" + _length(body) + body


def name(which: str, value: bytes) -> bytes:
    return b"\x08" + path(which) + value


def method(which: str, *terms: bytes, arguments: int = 0, serialized: bool = False) -> bytes:
    flags = bytes([arguments | serialized << 3])
    body = path(which) + flags + b"".join(terms)
    return b"\x14" + _length(body) + body


def region(which: str, space: int, start: int, size: int) -> bytes:
    """OperationRegion."""
    return b"\x5b\x80" + path(which) + bytes([space]) + integer(start) + integer(size)


def field(of: str, access: int, *units: tuple[int, str, int]) -> bytes:
    """Field of a region: (bit offset, name, bits) each, in order; what lies between is skipped.
    Reads have the size of `access`; a write keeps the other bits (Preserve, NoLock)."""
    body, at = path(of) + bytes([access]), 0
    for offset, which, width in units:
        if offset > at:
            body += b"\0" + _field_length(offset - at)
        body += path(which) + _field_length(width)
        at = offset + width
    return b"\x5b\x81" + _length(body) + body


def _field_length(bits: int) -> bytes:
    """A number of bits, coded as PkgLength is but without its own bytes (§20.2.5.2)."""
    if bits < 64:
        return bytes([bits])
    extra = 1 if bits < 1 << 12 else 2
    return bytes([extra << 6 | bits & 0xF]) + (bits >> 4).to_bytes(extra, "little")


def dword_field(source: str, index: int, which: str) -> bytes:
    """CreateDWordField."""
    return b"\x8a" + path(source) + integer(index) + path(which)


def byte_field(source: str, index: int, which: str) -> bytes:
    """CreateByteField."""
    return b"\x8c" + path(source) + integer(index) + path(which)


# --- statements and expressions -----------------------------------------------------------------------


def local(number: int) -> bytes:
    return bytes([0x60 + number])


def arg(number: int) -> bytes:
    return bytes([0x68 + number])


def store(value: bytes, target: bytes) -> bytes:
    return b"\x70" + value + target


def return_(value: bytes) -> bytes:
    return b"\xa4" + value


def add(left: bytes, right: bytes) -> bytes:
    return b"\x72" + left + right + b"\0"


def and_(left: bytes, right: bytes) -> bytes:
    return b"\x7b" + left + right + b"\0"


def or_(left: bytes, right: bytes) -> bytes:
    return b"\x7d" + left + right + b"\0"


def equal(left: bytes, right: bytes) -> bytes:
    """LEqual."""
    return b"\x93" + left + right


def less(left: bytes, right: bytes) -> bytes:
    """LLess."""
    return b"\x95" + left + right


def if_(condition: bytes, *terms: bytes) -> bytes:
    body = condition + b"".join(terms)
    return b"\xa0" + _length(body) + body


def else_(*terms: bytes) -> bytes:
    """Right after an `if_`."""
    body = b"".join(terms)
    return b"\xa1" + _length(body) + body


def notify(which: str, value: bytes) -> bytes:
    return b"\x86" + path(which) + value


# --- resource descriptors (§6.4) ------------------------------------------------------------------------


def resources(*descriptors: bytes) -> bytes:
    """A ResourceTemplate; the end tag's checksum of 0 means "not given" (§6.4.2.9)."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def io_ports(start: int, count: int) -> bytes:
    """16-bit decode, at that place only (§6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, start, start, 1, count)


def memory32(start: int, size: int) -> bytes:
    """Memory32Fixed, read and write (§6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, start, size)


def interrupt(*lines: int, level: bool = False, shared: bool = False) -> bytes:
    """Extended interrupt descriptor, active high (§6.4.3.6). Its flags are at byte 3, the first line's number
    at byte 5."""
    body = bytes([trigger(level, shared), len(lines)]) + b"".join(
        struct.pack("<I", one) for one in lines
    )
    return b"\x89" + struct.pack("<H", len(body)) + body


def trigger(level: bool, shared: bool) -> int:
    """The flags of an interrupt descriptor: a consumer's, active high (§6.4.3.6)."""
    return 1 | (not level) << 1 | shared << 3
