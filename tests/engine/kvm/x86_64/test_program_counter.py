"""Where the instruction lies whose access is handled, under KVM."""

from __future__ import annotations

from tests.engine.kvm import guests
from tests.engine.kvm.rig import rig
from tests.support import require_kvm

# (the instruction, its accesses); `ebx` is MMIO
_GUEST = (
    ("8b 03", 1),  # mov eax,[ebx]
    ("89 03", 1),  # mov [ebx],eax
    ("88 03", 1),  # mov [ebx],al
    ("e4 62", 1),  # in al,0x62
    ("66 ba 62 00", 0),  # mov dx,0x62
    ("ed", 1),  # in eax,dx
    ("01 03", 2),  # add [ebx],eax: a read and a write
    ("c7 03 05 00 00 00", 1),  # mov dword ptr [ebx],5
    ("b0 01", 0),  # mov al,1
    ("e6 f4", 1),  # out 0xf4,al
    ("f4", 0),
)


def test_each_access_names_its_instruction() -> None:
    require_kvm()
    code, spans = b"", []
    for text, accesses in _GUEST:
        one = bytes.fromhex(text)
        spans += [(guests.CODE + len(code), len(one))] * accesses
        code += one
    seen: list[tuple[str, int]] = []
    with rig() as r:
        done = r.ports.hook
        assert done is not None

        def note(kind: str, address: int, size: int, value: int) -> None:
            found = r.engine.program_counter()
            assert found is not None
            seen.append((kind, found))

        def note_port(kind: str, address: int, size: int, value: int) -> None:
            note(kind, address, size, value)
            done(kind, address, size, value)

        r.mmio.hook, r.ports.hook = note, note_port
        r.run(code)
        assert r.engine.program_counter() is None, "no access is handled on this thread"
    assert len(seen) == len(spans)
    for (kind, found), (start, size) in zip(seen, spans, strict=True):
        assert found == start if kind == "r" else start <= found < start + size
