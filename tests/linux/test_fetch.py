"""The cache and the sources: what is checked, and in which words a fetch fails."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import require_program
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
    facts = cache.verify(root / "x")
    assert facts is not None
    assert facts["files"]["kernel"]["size"] == 6


def test_a_damaged_one_is_not(root: Path) -> None:
    filled(root / "x")
    (root / "x/kernel").write_bytes(b"Kernel")
    assert cache.verify(root / "x") is None
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
    with pytest.raises(ConfigError, match="no source 5"):
        kernels.linux(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no architecture 'sparc'"):
        kernels.linux(arch="sparc")
    with pytest.raises(ConfigError, match="arch=5: give an architecture's name"):
        kernels.linux(arch=5)  # type: ignore[arg-type]


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
    for name in ("apt-get", "apt-cache", "apt-config", "dpkg-deb"):
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
    monkeypatch.setattr(initramfs, "cached", lambda folder, facts: folder / "initramfs")
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
    from vmlab.boot.x86_64.load import parse

    made = krun.as_elf(0x100_0000, 0x100_0123, b"\xf4" * 0x1000)
    kernel = parse(made, "krun")
    assert kernel.linux
    assert kernel.entry.address == 0x100_0123
    assert [(one.address, len(one.data)) for one in kernel.pieces] == [(0x100_0000, 0x1000)]


def test_the_manifest_is_plain_json(root: Path) -> None:
    filled(root / "x")
    assert json.loads((root / "x/manifest.json").read_text())["source"] == "debian"


@pytest.mark.parametrize("machine", ["aarch64", "riscv64", "ppc64le"])
def test_the_guest_is_not_the_host(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is an x86_64 one whatever this host is, and so is its kernel."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(KernelError, match=r"debian-x86_64 yet: .*--arch x86_64"):
        kernels.linux(fetch=False)
    with pytest.raises(KernelError, match="debian-arm64 yet"):
        kernels.linux(arch="aarch64", fetch=False)


def test_everything_fetched_is_read_again_and_compared(root: Path) -> None:
    folder = root / "linux/debian-x86_64"
    folder.mkdir(parents=True)
    for name in ("kernel", "busybox"):
        (folder / name).write_bytes(b"\x7fELF" + b"[\0[[\0cat\0ls\0busy")
    cache.complete(folder, {"source": "debian", "layout": guest.LAYOUT})
    initrd = kernels.linux(fetch=False).initrd
    whole = initrd.read_bytes()
    assert kernels.linux(fetch=False).initrd == initrd
    # what is built is built anew, what was fetched is not trusted
    initrd.write_bytes(whole[:-1] + b"\xff")
    assert kernels.linux(fetch=False).initrd.read_bytes() == whole
    (folder / "kernel").write_bytes(b"\x7fELF" + b"[\0[[\0cat\0ls\0bUsy")
    with pytest.raises(KernelError, match="yet: run"):
        kernels.linux(fetch=False)


def test_what_was_fetched_is_there_the_next_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(state: Path, made: Path, arch: str, release: str) -> cache.Manifest:
        (made / "kernel").write_bytes(b"\x7fELF".ljust(4 << 20, b"k"))
        (made / "busybox").write_bytes(b"\x7fELF".ljust(200 << 10, b"b"))
        return {"source": "debian", "packages": []}

    monkeypatch.setattr(debian, "download", download)
    told: list[str] = []
    first = kernels.linux(say=told.append)
    assert kernels.linux(say=told.append) == kernels.linux(fetch=False) == first
    assert len(told) == 1


def test_nobody_else_can_write_what_is_fetched(root: Path) -> None:
    before = os.umask(0)
    try:
        with cache.alone(), cache.fresh_folder(root / "linux/x") as made:
            (made / "modules").mkdir()
            for name in ("kernel", "modules/a.ko"):
                (made / name).write_bytes(b"k")
            cache.complete(made, {})
        said = cache.program(["sh", "-c", "umask"], "umask")
    finally:
        os.umask(before)
    assert int(said, 8) == 0o022
    places = [root, *root.rglob("*")]
    assert len(places) > 6
    for path in places:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022, path


def test_what_a_killed_fetch_left_goes_with_the_next(root: Path) -> None:
    program = (
        "import os, signal; from vmlab.linux import cache\n"
        "with cache.alone(), cache.fresh_folder(cache.cache_root() / 'x') as made:\n"
        "    (made / 'half').write_bytes(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert len(list(root.iterdir())) == 2, "the lock, and what is left"
    with cache.alone(), cache.fresh_folder(root / "x") as made:
        (made / "whole").write_bytes(b"w")
    assert sorted(one.name for one in root.iterdir()) == ["lock", "x"]


def test_a_limit_on_the_size_of_files_is_told(root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with (
            pytest.raises(KernelError, match=r"cannot be written: File too large"),
            cache.alone(),
            cache.fresh_folder(root / "x") as made,
        ):
            (made / "kernel").write_bytes(bytes(1 << 20))
        with pytest.raises(KernelError, match="ended by SIGXFSZ: a limit on the size of files"):
            cache.program(
                ["dd", "if=/dev/zero", f"of={root}/big", "bs=1M", "count=1"], "dd does not write"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (root / "x").exists()


def test_a_full_disk(root: Path) -> None:
    with (
        pytest.raises(KernelError, match=r"cannot be written: No space left.*XDG_CACHE_HOME"),
        cache.fresh_folder(root / "x"),
    ):
        raise OSError(28, "No space left on device")
    assert list(root.iterdir()) == []


def test_no_folder_for_temporary_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert cache.program(["sh", "-c", 'mktemp -d "$TMPDIR/x.XXX"'], "x").startswith(str(root))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("deb [trusted=yes] http://x y main", "deb [] http://x y main"),
        (
            "deb [arch=amd64 Allow-Insecure=yes signed-by=/k] http://x y main\n",
            "deb [arch=amd64  signed-by=/k] http://x y main\n",
        ),
        (
            "Types: deb\nTrusted: yes\nURIs: http://x\nallow-weak:\n yes\nSuites: y\n",
            "Types: deb\nURIs: http://x\nSuites: y\n",
        ),
        ("deb http://x/trusted=yes y main", "deb http://x/trusted=yes y main"),
    ],
)
def test_sources_that_trust_anybody(said: str, kept: str) -> None:
    assert debian._FIELD.sub("", debian._OPTION.sub("", said)) == kept


@pytest.mark.parametrize("trusting", ["source", "option", "both"])
def test_an_unsigned_package_is_refused_by_the_real_apt(
    root: Path, monkeypatch: pytest.MonkeyPatch, trusting: str
) -> None:
    for name in ("apt-get", "dpkg-deb"):
        require_program(name)
    base = root.parent
    control = base / "package/DEBIAN/control"
    control.parent.mkdir(parents=True)
    text = "Package: busybox-static\nVersion: 9\nArchitecture: amd64\nMaintainer: a <a@b.c>\nDescription: x\n"
    control.write_text(text)
    repository = base / "repository"
    repository.mkdir()
    deb = repository / "busybox-static_9_amd64.deb"
    subprocess.run(["dpkg-deb", "-b", base / "package", deb], check=True, capture_output=True)
    (repository / "Packages").write_text(
        f"{text}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {cache.digest(deb)}\n"
    )
    option = "[trusted=yes allow-insecure=yes]" if trusting != "option" else ""
    (base / "sources").write_text(f"deb {option} file:{repository} ./\n")
    lines = [f'Dir::Etc::sourcelist "{base}/sources";', 'Dir::Etc::sourceparts "-";']
    if trusting != "source":
        lines += ['Acquire::AllowInsecureRepositories "true";']
        lines += ['APT::Get::AllowUnauthenticated "true";']
    (base / "config").write_text("\n".join(lines))
    monkeypatch.setenv("APT_CONFIG", str(base / "config"))
    with pytest.raises(KernelError, match=r"not signed|no longer signed|Release"):
        debian.download(root / "apt", base, "x86_64", kernel=False)


def test_a_wheel_that_is_not_the_one_that_was_tried(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    name = krun.DISTRIBUTION.replace("==", "-")
    (wheels / f"{name}-cp310-abi3-manylinux_2_28_x86_64.whl").write_bytes(b"PK")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(KernelError, match=r"cannot be downloaded.*ERROR.*HASHES"):
        krun.download(tmp_path, "x86_64")


def test_busyboxs_commands_are_read_from_its_table() -> None:
    table = b"code\0\1[\0[[\0ar\0busybox\0cat\0ls\0usage: ls\0zcat\0"
    assert initramfs.applets(table) == ["[", "[[", "ar", "cat", "ls"]
    for none in (b"", b"[\0[[", b"[\0", b"no table"):
        assert initramfs.applets(none) == []
