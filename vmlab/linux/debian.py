"""Debian's cloud kernel and busybox-static, fetched by this host's own apt-get and without root.

apt checks what it loads against the lists that its keys sign, whatever this host is told to let through.
Lists, caches and locks lie in our cache; sources and keys are the host's. Another release of Debian comes
from the host's own mirror.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from vmlab.errors import KernelError
from vmlab.linux.cache import Manifest, digest, folder, keep, program

__all__ = ["ARCHES", "BUSYBOX", "FIRST", "KERNELS", "download"]

#: our name of an architecture -> Debian's
ARCHES = {"x86_64": "amd64", "arm64": "arm64", "riscv64": "riscv64"}
#: the metapackage of the kernel
KERNELS = {
    "amd64": "linux-image-cloud-amd64",
    "arm64": "linux-image-cloud-arm64",
    "riscv64": "linux-image-riscv64",
}
#: the first of Debian's releases that has the architecture, where not all of them have it; it is taken where
#: this host's own is older
FIRST = {"riscv64": "trixie"}
#: one that every release has
_EVERYWHERE = "x86_64"
BUSYBOX = "busybox-static"
#: the keys of every release, of the package debian-archive-keyring
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: nothing unsigned, and no other server in the place of the one that is meant
_SIGNED = {
    "APT::Get::AllowUnauthenticated": "false",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "Acquire::https::Verify-Peer": "true",
    "Acquire::https::Verify-Host": "true",
}
#: what a source may say to the contrary (sources.list(5)): in one line's brackets, or as a field
_TRUSTING = r"(?:trusted|allow-insecure|allow-weak|allow-downgrade-to-insecure)"
_OPTION = re.compile(rf"(?<=[\[\s]){_TRUSTING}=[^\s\]]*", re.IGNORECASE)
_FIELD = re.compile(rf"^{_TRUSTING}\s*:.*(?:\n[ \t].*)*\n?", re.IGNORECASE | re.MULTILINE)
_HINT = "or boot your own: VM(kernel='vmlinuz', initrd=..., cmdline=...)"


class Apt:
    """apt-get with a state of its own under `place`. sources: a list instead of the host's."""

    def __init__(self, place: Path, arch: str, sources: Path | None = None) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise KernelError(
                "Linux for guests comes through apt-get and dpkg-deb, and this host has none (it is no"
                f" Debian or Ubuntu). Fetch it on one and copy its cache folder, {_HINT}"
            )
        self.arch = arch
        for name in ("state/lists/partial", "cache/archives/partial"):
            folder(place / name)
        keep(place / "state/status", b"")
        settings = {
            **_SIGNED,
            "Dir::State": place / "state",
            "Dir::State::status": place / "state/status",
            "Dir::Cache": place / "cache",
            "APT::Architecture": arch,
            "APT::Architectures::": arch,
            # as root apt would drop to a user who cannot write here
            "APT::Sandbox::User": "root",
            # the lists of other languages and of files are large, and not needed
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        parts: Path | str = "-"
        if sources is None:
            sources, parts = _signed_sources(place / "sources")
        settings |= {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": parts}
        self._options = [
            part for key, value in settings.items() for part in ("-o", f"{key}={value}")
        ]

    def update(self) -> None:
        program(
            ["apt-get", *self._options, "-qq", "update"],
            "the package lists cannot be loaded (are you online?)",
        )

    def has(self, name: str) -> bool:
        """Whether there is a package of that name."""
        what = "this host's package sources cannot be read"
        return bool(program(["apt-cache", *self._options, "pkgnames", name], what))

    def release(self, name: str, place: Path, arch: str = "") -> Apt:
        """The same for Debian's release `name`, from the mirror that this host has Debian from. arch: of
        another architecture."""
        what = f"Debian's release {name!r} cannot be had"
        pattern = ["Origin: Debian", "Label: Debian", "Component: main", "Created-By: Packages"]
        mirrors = program(
            ["apt-get", *self._options, "indextargets", "--format", "$(REPO_URI)", *pattern], what
        ).split()
        if not mirrors or not KEYS.exists():
            missing = (
                f"has no {KEYS} (package {KEYS.stem})" if mirrors else "has no source of Debian's"
            )
            raise KernelError(f"{what}: this host {missing}; {_HINT}")
        sources = folder(place) / "sources.list"
        keep(sources, f"deb [signed-by={KEYS}] {mirrors[0]} {name} main\n".encode())
        return Apt(place, arch or self.arch, sources)

    def depends(self, name: str) -> str:
        """The first package that a metapackage stands for."""
        what = f"this host's package sources have no {name}; take the source krun, {_HINT}"
        shown = program(["apt-cache", *self._options, "show", "--no-all-versions", name], what)
        found = re.search(r"^Depends: ([^\s,]+)", shown, re.MULTILINE)
        if not found:
            raise KernelError(what)
        return found[1]

    def load(self, names: list[str], into: Path) -> list[Path]:
        """The packages' files in `into`."""
        program(
            ["apt-get", *self._options, "-qq", "download", *names],
            f"{', '.join(names)} cannot be downloaded (are you online?)",
            cwd=into,
        )
        return sorted(into.glob("*.deb"))


def _signed_sources(place: Path) -> tuple[Path, Path]:
    """Copies of this host's sources (a file, a folder of files) without what lets unsigned packages in."""
    what = "this host's package sources cannot be read"
    setting = {}
    for line in program(["apt-config", "dump", "--format", "%f=%v%n", "Dir"], what).splitlines():
        name, _, value = line.partition("=")
        setting[name.lower()] = value

    def at(*names: str) -> Path:
        """Each below the one before it, unless it is absolute."""
        found = Path("/")
        for name in names:
            found /= setting.get(name, "")
        return found

    whole = at("dir", "dir::etc", "dir::etc::sourcelist")
    parts = at("dir", "dir::etc", "dir::etc::sourceparts")
    shutil.rmtree(place, ignore_errors=True)
    for copied, source in [
        (folder(place) / "sources.list", whole),
        *((folder(place / "parts") / one.name, one) for one in _files(parts)),
    ]:
        text = source.read_text(encoding="utf-8", errors="replace") if source.is_file() else ""
        keep(copied, _FIELD.sub("", _OPTION.sub("", text)).encode())
    return place / "sources.list", folder(place / "parts")


def _files(parts: Path) -> list[Path]:
    found = sorted(parts.iterdir()) if parts.is_dir() else []
    return [one for one in found if one.suffix in (".list", ".sources")]


def download(
    state: Path, folder: Path, arch: str, kernel: bool = True, release: str = ""
) -> Manifest:
    """Put `kernel` (the image), `modules/` and `busybox` into `folder`; what the packages are. release: one
    of Debian's by name ("trixie"); else what this host's sources have."""
    apt = _sources(state, arch, release)
    names = [BUSYBOX]
    if kernel:
        names.append(apt.depends(KERNELS[apt.arch]))
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    packages = []
    for deb in apt.load(names, folder):
        program(["dpkg-deb", "-x", deb, unpacked], f"{deb.name} cannot be unpacked")
        packages.append({"file": deb.name, "sha256": digest(deb)})
        deb.unlink()
    _move(unpacked / "bin/busybox", unpacked / "usr/bin/busybox", folder / "busybox")
    if kernel:
        _move(*unpacked.glob("boot/vmlinu[xz]-*"), folder / "kernel")
        _move(
            *unpacked.glob("lib/modules/*"), *unpacked.glob("usr/lib/modules/*"), folder / "modules"
        )
    shutil.rmtree(unpacked)
    return {"source": "debian", "packages": packages}


def _sources(state: Path, arch: str, release: str) -> Apt:
    """Where packages come from, their lists loaded; see `download`."""
    apt = Apt(state, ARCHES[arch])
    apt.update()
    if arch in FIRST:
        if not release and not apt.has(BUSYBOX):
            release = FIRST[arch]
        if release:
            # a mirror is known by the lists that it has, and of a release before there are none
            apt = Apt(state.with_name(_EVERYWHERE), ARCHES[_EVERYWHERE])
            apt.update()
    if release:
        apt = apt.release(release, state / release, ARCHES[arch])
        apt.update()
    return apt


def _move(*places: Path) -> None:
    """The first of the places but the last that is there becomes the last."""
    *sources, target = places
    for one in sources:
        if one.exists():
            one.rename(target)
            return
    raise KernelError(f"the package holds no {target.name}; was its layout changed?")
