"""A libkrunfw is data: the kernel in it is found, and nothing of it runs."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boot.images import elf64
from tests.support import require_program
from vmlab.boot.x86_64.load import check, parse
from vmlab.errors import KernelError
from vmlab.linux import krun, krunfw

LOAD, ENTRY, SIZE = 0x100_0000, 0x100_0123, 0x3000
SOURCE = f"""
#include <stddef.h>
#include <fcntl.h>
#include <unistd.h>
__attribute__((aligned(4096))) char KERNEL_BUNDLE[{SIZE} + 1] = "\\xf4kernel";
char *krunfw_get_kernel(size_t *load, size_t *entry, size_t *size)
{{
    *load = {LOAD};
    *entry = {ENTRY};
    *size = (sizeof(KERNEL_BUNDLE) - 1);
    return &KERNEL_BUNDLE[0];
}}
__attribute__((constructor)) static void run(void)
{{
    close(open(MARK, O_CREAT | O_WRONLY, 0600));
}}
"""


def build(folder: Path, source: str = SOURCE, *options: str) -> Path:
    """The library, as libkrunfw's own Makefile makes it, with a constructor that leaves a file."""
    made = folder / "libkrunfw.so.5"
    subprocess.run(
        [
            *(require_program("gcc"), "-shared", "-fPIC", *options, f'-DMARK="{folder}/ran"'),
            *("-x", "c", "-", "-o", str(made)),
        ],
        input=source.encode(),
        check=True,
    )
    return made


@pytest.mark.parametrize("optimize", ["-O0", "-O1", "-O2", "-Os"])
def test_the_kernel_is_read_out_of_it_and_nothing_runs(tmp_path: Path, optimize: str) -> None:
    library = build(tmp_path, SOURCE, optimize, "-s")
    load, entry, image = krun.extract(str(library))
    assert (load, entry, len(image), image[:7]) == (LOAD, ENTRY, SIZE, b"\xf4kernel")
    data = library.read_bytes()
    check(data, "k")
    kernel = parse(data, "k")
    assert kernel.linux
    assert (kernel.pieces[0].address, kernel.pieces[0].size) == (LOAD, SIZE)
    assert kernel.entry.address == ENTRY
    assert not (tmp_path / "ran").exists()
    ctypes.CDLL(str(library))
    assert (tmp_path / "ran").exists(), "what loading it would have done"


def test_any_other_library_is_refused_and_does_not_run(tmp_path: Path) -> None:
    for source in (
        SOURCE.replace("KERNEL_BUNDLE", "OTHER_BUNDLE"),
        SOURCE.replace("krunfw_get_kernel", "xkrunfw_get_kernel"),
    ):
        library = build(tmp_path, source)
        with pytest.raises(KernelError, match="shared library"):
            parse(library.read_bytes(), "k")
        with pytest.raises(KernelError, match="not a libkrunfw"):
            krun.extract(str(library))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        f"*load = {LOAD + 0x10_0000}",  # above the entry
        "*load = *size",
        "*load = (size_t)&load",
        "",
    ],
)
def test_one_that_does_not_say_where_its_kernel_goes(tmp_path: Path, change: str) -> None:
    library = build(tmp_path, SOURCE.replace(f"*load = {LOAD}", change), "-O2")
    with pytest.raises(KernelError, match="does not say where its kernel is loaded"):
        parse(library.read_bytes(), "k")


def test_the_name_alone_means_nothing() -> None:
    image = elf64() + b"krunfw_get_kernel\0KERNEL_BUNDLE\0"
    assert not parse(image, "k").linux
    with pytest.raises(KernelError, match="shared library"):
        parse(elf64(note=b"", kind=3) + b"krunfw_get_kernel\0KERNEL_BUNDLE\0", "k")


def test_arm64_code_is_read_too() -> None:
    words = (
        *(0xD100_83FF, 0xF900_0FE0, 0xF940_0FE0, 0xD2B0_0001, 0xF900_0001),  # *load = 0x80000000
        *(0xF940_0BE0, 0xD2B0_0001, 0xF900_0001),  # *entry
        *(0xF940_07E0, 0xD284_6801, 0xF2A0_2F21, 0xF900_0001),  # *size: MOVZ, MOVK
    )
    constants = krunfw._arm64_constants(struct.pack(f"<{len(words)}I", *words))
    assert krunfw._places(constants, 0x179_2341) == (0x8000_0000, 0x8000_0000, 0x179_2340)


@settings(max_examples=400, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1)),
        max_size=6,
    ),
    cut=st.none() | st.floats(0, 1),
)
def test_damaged_ones(
    changes: list[tuple[float, int, int]],
    cut: float | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    global _built
    if not _built:
        _built = build(tmp_path_factory.mktemp("krunfw"), SOURCE, "-s").read_bytes()
    # headers, symbols and code; the bundle in between is of no interest
    places = [*range(0x600), *range(0x1000, 0x1200), *range(len(_built) - 0x800, len(_built))]
    bad = bytearray(_built)
    for at, size, value in changes:
        place = places[int(at * (len(places) - 1))]
        bad[place : place + size] = value.to_bytes(8, "little")[:size]
    image = bytes(bad) if cut is None else bytes(bad[: int(cut * len(bad))])
    try:
        parse(image, "k")
    except KernelError:
        pass


_built = b""
