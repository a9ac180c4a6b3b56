"""What a frame says, in one line for people. Nothing here is trusted, nothing here raises."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from vmlab.errors import ConfigError

__all__ = ["BROADCAST", "MIN_FRAME", "describe", "mac_bytes", "mac_text"]

BROADCAST = b"\xff" * 6
#: a frame without payload: two addresses and a type
MIN_FRAME = 14

_ARP, _IPV4, _IPV6, _VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
_ICMP_NAMES = {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"}
_ICMPV6_NAMES = {
    1: "unreachable",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    143: "multicast listener report",
}
#: IPv6 headers that only lead to the next one: hop-by-hop, routing, destination options
_EXTENSIONS = (0, 43, 60)
#: VLAN tags that are named: a frame has one, a provider's two; a hostile one has as many as it holds
_TAGS = 4


def mac_text(address: bytes | memoryview) -> str:
    """02:56:4d:00:00:01"""
    return bytes(address).hex(":")


def mac_bytes(text: str) -> bytes:
    """The six bytes of a station's address; ConfigError when it is none."""
    parts = text.replace("-", ":").split(":")
    try:
        address = bytes(int(part, 16) for part in parts)
        well_formed = len(parts) == 6 and all(1 <= len(part) <= 2 for part in parts)
    except ValueError:
        well_formed, address = False, b""
    if not well_formed:
        raise ConfigError(f"mac={text!r}; six bytes in hexadecimal, such as 02:56:4d:00:00:01")
    if address[0] & 1 or not any(address):
        raise ConfigError(
            f"mac={text!r} is a group's address or zero; a station's has an even first byte"
        )
    return address


def describe(frame: bytes | memoryview) -> str:
    """Such as `ARP who has 10.0.0.2? tell 10.0.0.1`; addresses of the link only where nothing better
    is known."""
    data = bytes(frame)
    try:
        text = _payload(data, 12)
    except (struct.error, IndexError, ValueError):
        text = "cut short"
    if text and text[0].isdigit():
        return text  # it begins with the addresses of the network
    return f"{mac_text(data[6:12])} > {mac_text(data[:6])} {text}"


def _payload(data: bytes, at: int) -> str:
    (kind,) = struct.unpack_from(">H", data, at)
    tags: list[str] = []
    while kind == _VLAN and len(tags) < _TAGS:
        tag, kind = struct.unpack_from(">HH", data, at + 2)
        tags.append(f"VLAN {tag & 0xFFF} ")
        at += 4
    return "".join(tags) + _carried(kind, data[at + 2 :])


def _carried(kind: int, rest: bytes) -> str:
    if kind == _VLAN:
        return f"more VLAN tags, {len(rest)} bytes"
    if kind == _ARP:
        return _arp(rest)
    if kind == _IPV4:
        return _ipv4(rest)
    if kind == _IPV6:
        return _ipv6(rest)
    what = f"length {kind}" if kind < 0x600 else f"type {kind:#06x}"
    return f"{what}, {len(rest)} bytes"


def _arp(data: bytes) -> str:
    """RFC 826, for Ethernet and IPv4."""
    hardware, protocol, sizes, operation = struct.unpack_from(">HHHH", data)
    if (hardware, protocol, sizes) != (1, _IPV4, 0x0604):
        return f"ARP for hardware {hardware}, protocol {protocol:#06x}"
    sender, asker = mac_text(data[8:14]), IPv4Address(data[14:18])
    target = IPv4Address(data[24:28])
    if operation == 1:
        return f"ARP who has {target}? tell {asker}"
    return f"ARP {asker} is at {sender}" if operation == 2 else f"ARP operation {operation}"


def _ipv4(data: bytes) -> str:
    header = (data[0] & 0xF) * 4
    (total,) = struct.unpack_from(">H", data, 2)
    (fragment,) = struct.unpack_from(">H", data, 6)
    source, target = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
    offset = (fragment & 0x1FFF) * 8
    if data[0] >> 4 != 4 or header < 20:
        return "IPv4 with a broken header"
    if offset:
        return f"{source} > {target} IPv4 fragment at {offset}, {total - header} bytes"
    return _transport(data[9], data[header:total], source, target)


def _ipv6(data: bytes) -> str:
    (size,) = struct.unpack_from(">H", data, 4)
    kind, body = data[6], data[40 : 40 + size]
    source, target = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
    for _ in range(8):  # more of them than that no sender has a reason for
        if kind not in _EXTENSIONS:
            break
        kind, body = body[0], body[8 + 8 * body[1] :]
    if kind == _ICMPV6:
        name = _ICMPV6_NAMES.get(body[0], f"type {body[0]}")
        return f"IPv6 {source} > {target} ICMPv6 {name}{_echo(body, body[0] in (128, 129))}"
    return "IPv6 " + _transport(kind, body, f"[{source}]", f"[{target}]")


def _transport(kind: int, body: bytes, source: str, target: str) -> str:
    if kind == _ICMP:
        name = _ICMP_NAMES.get(body[0], f"type {body[0]}")
        return f"{source} > {target} ICMP {name}{_echo(body, body[0] in (0, 8))}"
    if kind not in (_TCP, _UDP):
        return f"{source} > {target} protocol {kind}, {len(body)} bytes"
    ports = struct.unpack_from(">HH", body)
    between = f"{source}:{ports[0]} > {target}:{ports[1]}"
    if kind == _UDP:
        return f"{between} UDP, {max(len(body) - 8, 0)} bytes"
    sequence, _, offset, bits = struct.unpack_from(">IIBB", body, 4)
    flags = " ".join(name for bit, name in enumerate(_FLAGS) if bits >> bit & 1)
    size = max(len(body) - (offset >> 4) * 4, 0)
    return f"{between} TCP {flags} seq {sequence}, {size} bytes"


def _echo(body: bytes, wanted: bool) -> str:
    if not wanted:
        return ""
    identity, sequence = struct.unpack_from(">HH", body, 4)
    return f" id {identity} seq {sequence}, {len(body) - 8} bytes"
