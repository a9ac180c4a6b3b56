"""`make lock`: writes requirements/*.txt, what was tested, from what pyproject.toml allows.

    base    what vmlab itself needs, and what builds it        soft    the software engine
    lab     the notebooks, and Linux's kernels                 test    everything else but
    docs    the documentation site

A file holds what those before it do not, one version of each distribution for all the Pythons and
systems, told apart by markers, with the hashes of every file of it: pip takes nothing else. It needs uv.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements"
LAYERS = {"base": (), "soft": ("soft",), "lab": ("lab",), "test": ("soft", "linux", "lab", "test")}
LAYERS["docs"] = (*LAYERS["test"], "docs")
#: where every distribution must come as a wheel: whoever installs it there needs no compiler
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
HEADER = """\
# Written by `make lock`, not by hand: {what}.
# pip install --require-hashes -r ...; pyproject.toml says what else is allowed.
"""


def uv(*arguments: str | Path, **options: str) -> str:
    """What uv prints; it says itself what it could not do."""
    command = [str(Path(sys.executable).parent / "uv"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def resolve(extras: tuple[str, ...], *more: str | Path) -> dict[str, str]:
    """Name -> its lines, hashes included, of all that vmlab with these extras needs."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    text = uv(
        *("pip", "compile", "--quiet", "pyproject.toml", "-", "--universal"),
        *("--python-version", PYTHONS[0], "--fork-strategy", "fewest"),
        # pip takes the newest of a distribution whose extra somebody needs, unless the pin names the extra
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-strip-extras"),
        *(f"--extra={extra}" for extra in extras),
        *more,
        input="\n".join(needed),
    )
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    return {re.match(r"[\w.-]+", block)[0]: block for block in blocks if block.strip()}


def versions(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w.-]+)(?:\[.*\])?==(\S+)", text))


def check(lines: str) -> None:
    """Every Python on every platform finds a wheel of everything."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "all.txt")
        file.write_text(lines)
        for platform in PLATFORMS:
            for python in PYTHONS:
                uv(
                    *("pip", "install", "--quiet", "--dry-run", "--only-binary", ":all:"),
                    *("--target", folder, "--python-platform", platform),
                    *("--python-version", python, "--require-hashes", "-r", file),
                )


def main() -> None:
    before = versions("".join(file.read_text() for file in LOCK.glob("*.txt")))
    whole = resolve(LAYERS["docs"])
    check("".join(whole.values()))
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "pins.txt")
        pins.write_text("".join(whole.values()))
        written: set[str] = set()
        for layer, extras in LAYERS.items():
            names = sorted(resolve(extras, "--constraint", pins).keys() - written)
            head = HEADER.format(what=f"what {layer} needs besides" if written else "the base")
            (LOCK / f"{layer}.txt").write_text(head + "".join(whole[name] for name in names))
            written |= set(names)
    after = versions("".join(whole.values()))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, "-"), after.get(name, "-")
        if was != now:
            print(f"{name} {was} -> {now}")


if __name__ == "__main__":
    os.umask(0o022)
    main()
