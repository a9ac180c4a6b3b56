"""What a loader needs to find in an image, and what must not be in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kernels.conftest import SOURCE, Built, build
from tests.support import require_module

KERNELS = ["hello", "irqlab", "monitor", "smp"]
LIMIT = 64 << 10
BASE = 0x10_0000
XEN_ELFNOTE_PHYS32_ENTRY = 18


@pytest.fixture(params=KERNELS)
def image(images: Path, request: pytest.FixtureRequest) -> Path:
    return images / f"{request.param}.elf"


def test_every_folder_has_its_image(images: Path) -> None:
    folders = {makefile.parent.name for makefile in SOURCE.glob("*/Makefile")}
    assert folders == {path.stem for path in images.glob("*.elf")} == set(KERNELS)


def test_static_elf64_for_x86_64(image: Path) -> None:
    elffile = require_module("elftools.elf.elffile")
    with image.open("rb") as file:
        elf = elffile.ELFFile(file)
        assert (elf.elfclass, elf.little_endian) == (64, True)
        assert (elf["e_machine"], elf["e_type"]) == ("EM_X86_64", "ET_EXEC")
        kinds = [segment["p_type"] for segment in elf.iter_segments()]
        assert "PT_INTERP" not in kinds
        assert "PT_DYNAMIC" not in kinds


def test_pvh_note_names_an_executable_entry(image: Path) -> None:
    elffile = require_module("elftools.elf.elffile")
    with image.open("rb") as file:
        elf = elffile.ELFFile(file)
        notes = [
            note
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_NOTE"
            for note in segment.iter_notes()
        ]
        assert [(note["n_name"], note["n_descsz"]) for note in notes] == [("Xen", 4)]
        assert notes[0]["n_type"] in {XEN_ELFNOTE_PHYS32_ENTRY, str(XEN_ELFNOTE_PHYS32_ENTRY)}
        description = notes[0]["n_desc"]
        raw = description.encode("latin-1") if isinstance(description, str) else description
        entry = int.from_bytes(raw, "little")
        assert entry == elf["e_entry"]
        holders = [
            segment
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
            and segment["p_vaddr"] <= entry < segment["p_vaddr"] + segment["p_filesz"]
        ]
        assert len(holders) == 1
        assert holders[0]["p_flags"] & 1


def test_segments_lie_apart_above_one_mebibyte(image: Path) -> None:
    elffile = require_module("elftools.elf.elffile")
    with image.open("rb") as file:
        elf = elffile.ELFFile(file)
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        end = BASE
        for load in loads:
            assert load["p_vaddr"] == load["p_paddr"] >= end
            end = load["p_paddr"] + load["p_memsz"]
        assert end < 2 * BASE


def test_small_and_without_debris(image: Path) -> None:
    elffile = require_module("elftools.elf.elffile")
    assert image.stat().st_size < LIMIT
    with image.open("rb") as file:
        sections = {section.name for section in elffile.ELFFile(file).iter_sections()}
    assert not {name for name in sections if name.startswith((".debug", ".comment", ".note.gnu"))}
    assert str(SOURCE).encode() not in image.read_bytes()


def test_same_source_same_bytes_wherever_it_lies(tmp_path: Path, built: Built) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(SOURCE, moved, ignore=shutil.ignore_patterns("build", "images"))
    here = built("gcc", "x86_64")
    there = build("gcc", tmp_path / "b", source=moved)
    for name in KERNELS:
        assert (here / f"{name}.elf").read_bytes() == (there / f"{name}.elf").read_bytes()
