"""The cache and the sources: what is checked, and in which words a fetch fails."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vmlab import kernels
from vmlab.errors import ConfigError, KernelError
from vmlab.linux import cache, debian, guest, initramfs, krun


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vmlab"


def filled(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "kernel").write_bytes(b"kernel")
    cache.complete(folder, {"source": "debian", "layout": guest.LAYOUT})


def test_a_complete_folder_is_known_again(root: Path) -> None:
    filled(root / "x")
    facts = cache.verify(root / "x", thorough=True)
    assert facts is not None
    assert facts["files"]["kernel"]["size"] == 6


def test_a_damaged_one_is_not(root: Path) -> None:
    filled(root / "x")
    (root / "x/kernel").write_bytes(b"Kernel")
    assert cache.verify(root / "x")
    assert cache.verify(root / "x", thorough=True) is None
    (root / "x/kernel").write_bytes(b"short")
    assert cache.verify(root / "x") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {"kernel": {}}}', '{"files": 1}'])
def test_a_broken_manifest_is_none(root: Path, text: str) -> None:
    filled(root / "x")
    (root / "x/manifest.json").write_text(text)
    assert cache.verify(root / "x") is None


def test_a_fetch_that_fails_leaves_what_was_there(root: Path) -> None:
    filled(root / "x")

    def fail() -> None:
        with cache.fresh_folder(root / "x") as made:
            (made / "kernel").write_bytes(b"half")
            raise KernelError("the line went dead")

    with pytest.raises(KernelError):
        fail()
    assert (root / "x/kernel").read_bytes() == b"kernel"
    assert [one.name for one in root.iterdir()] == ["x"]


def test_one_process_fetches_at_a_time(root: Path) -> None:
    import fcntl

    with cache.alone(), (root / "lock").open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_without_a_fetch_it_says_which_to_run() -> None:
    with pytest.raises(KernelError, match=r"vmlab fetch linux --source debian"):
        kernels.linux("debian", "x86_64", fetch=False)


def test_what_there_is_not() -> None:
    for name in ("arch", "debian-", "debian-../x", "krun-trixie"):
        with pytest.raises(ConfigError, match=f"no source '{name}'"):
            kernels.linux(name)
    with pytest.raises(ConfigError, match="no Linux for 'sparc'"):
        kernels.linux(arch="sparc")


def test_a_host_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match=r"this host has none .*VM\(kernel="):
        kernels.linux("debian", "x86_64", say=lambda text: None)


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        fake(folder, name, "exit 0")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_offline(programs: Path) -> None:
    fake(programs, "apt-get", "echo 'W: hm' >&2; echo 'E: Could not resolve it' >&2; exit 100")
    with pytest.raises(KernelError, match=r"are you online.*E: Could not resolve it"):
        kernels.linux("debian", "x86_64", say=lambda text: None)


def test_a_distribution_without_such_a_kernel(programs: Path) -> None:
    with pytest.raises(
        KernelError, match="no linux-image-cloud-amd64; take the source krun, or boot"
    ):
        kernels.linux("debian", "x86_64", say=lambda text: None)


def test_packages_with_another_layout(programs: Path) -> None:
    fake(programs, "apt-cache", "echo 'Depends: linux-image-1-cloud-amd64 (= 1)'")
    with pytest.raises(KernelError, match="the package holds no busybox"):
        kernels.linux("debian", "x86_64", say=lambda text: None)


def test_while_another_process_fetches_this_one_waits_and_takes_that(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "_fetch", lambda *_: pytest.fail("fetched twice"))
    monkeypatch.setattr(initramfs, "cached", lambda folder: folder / "initramfs")
    with ThreadPoolExecutor() as pool:
        with cache.alone():
            other = pool.submit(kernels.linux, "debian", "x86_64")
            time.sleep(0.2)
            assert not other.done()
            filled(root / "linux/debian-x86_64")
        assert other.result(timeout=10).kernel.read_bytes() == b"kernel"


def test_another_release_comes_from_the_hosts_mirror(
    programs: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = root.parent / "keys.gpg"
    monkeypatch.setattr(debian, "KEYS", keys)
    fake(programs, "apt-get", 'case "$*" in *indextargets*) echo http://mirror/debian/ ;; esac')
    apt = debian.Apt(root / "apt", "amd64")
    with pytest.raises(KernelError, match=r"'trixie' cannot be had: this host has no .*/keys.gpg"):
        apt.release("trixie", root / "apt/trixie")
    keys.touch()
    apt.release("trixie", root / "apt/trixie")
    written = (root / "apt/trixie/sources.list").read_text()
    assert written == f"deb [signed-by={keys}] http://mirror/debian/ trixie main\n"
    fake(programs, "apt-get", "exit 0")
    with pytest.raises(KernelError, match="this host has no source of Debian's; or boot your own"):
        apt.release("trixie", root / "apt/trixie")


def test_a_kernel_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"<html>" * 1_000_000)
    with pytest.raises(KernelError, match="not what was asked for"):
        guest._check(path, guest._MAGIC["x86_64"], 4 << 20)


def test_apt_keeps_its_state_in_the_cache(programs: Path, root: Path) -> None:
    fake(programs, "apt-get", f'echo "$@" >> {root.parent}/called')
    apt = debian.Apt(root / "apt", "amd64")
    apt.update()
    called = (root.parent / "called").read_text()
    assert f"Dir::State={root}/apt/state" in called
    assert f"Dir::Cache={root}/apt/cache" in called


def test_a_raw_kernel_becomes_an_elf_file() -> None:
    from vmlab.boot.load import parse

    made = krun.as_elf(0x100_0000, 0x100_0123, b"\xf4" * 0x1000)
    kernel = parse(made, "krun")
    assert kernel.linux
    assert kernel.entry.address == 0x100_0123
    assert [(one.address, len(one.data)) for one in kernel.pieces] == [(0x100_0000, 0x1000)]


def test_the_manifest_is_plain_json(root: Path) -> None:
    filled(root / "x")
    assert json.loads((root / "x/manifest.json").read_text())["source"] == "debian"
