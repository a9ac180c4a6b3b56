"""requirements/: what was tested, as `make lock` wrote it, and pyproject.toml, which it follows."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.support import ROOT, require_module, require_program

LAYERS = ("base", "soft", "lab", "test", "docs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
#: what each layer must hold, with those before it
ASKED = {
    "base": [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]],
    "soft": EXTRAS["soft"],
    "lab": [*EXTRAS["linux"], *EXTRAS["lab"]],
    "test": EXTRAS["test"],
    "docs": EXTRAS["docs"],
}
ENTRY = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)(?:\[(?P<extras>[a-z0-9,.-]+)\])?==(?P<version>\S+)"
    r"(?: ; (?P<marker>[^\\\n]+))?"
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)
WORLDS = [
    {"python_version": python[:4], "python_full_version": python, "sys_platform": platform}
    for python in ("3.11.0", "3.12.1", "3.13.0", "3.14.0")
    for platform in ("linux", "darwin")
]


def text(layer: str) -> str:
    return (ROOT / "requirements" / f"{layer}.txt").read_text()


def locked(layer: str) -> dict[str, tuple[str, str]]:
    """Name -> (version, marker or "")."""
    return {m["name"]: (m["version"], m["marker"] or "") for m in ENTRY.finditer(text(layer))}


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_is_in_it_but_versions_and_hashes(layer: str) -> None:
    lines = "".join(line for line in text(layer).splitlines(True) if line[0] != "#")
    assert ENTRY.sub("", lines) == ""
    assert "://" not in text(layer), "whose index it came from is nobody's business"


def test_no_layer_says_it_again() -> None:
    names = [name for layer in LAYERS for name in locked(layer)]
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("world", WORLDS, ids=lambda one: " ".join(one.values()))
def test_it_has_what_pyproject_asks_for(layer: str, world: dict[str, str]) -> None:
    require_module("packaging")
    from packaging.markers import Marker
    from packaging.requirements import Requirement

    held = {}
    for one in LAYERS[: LAYERS.index(layer) + 1]:
        for name, (version, marker) in locked(one).items():
            if not marker or Marker(marker).evaluate(world):
                held[name] = version
    for line in ASKED[layer]:
        wanted = Requirement(line)
        if wanted.name != "vmlab":
            assert held[wanted.name] in wanted.specifier, line


def test_a_pin_names_the_extras_that_others_ask_for() -> None:
    """Else pip takes the newest of that distribution, for which there is no hash, the day it is released."""
    require_module("packaging")
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    asked: dict[str, set[str]] = {}
    pinned = {}
    for layer in LAYERS:
        for entry in ENTRY.finditer(text(layer)):
            pinned[entry["name"]] = set((entry["extras"] or "").split(",")) - {""}
    for name, extras in pinned.items():
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # one for another system or Python
            continue
        for wanted in map(Requirement, lines):
            worlds = [{"extra": extra} for extra in ("", *extras)]
            marker = wanted.marker
            if wanted.extras and (marker is None or any(map(marker.evaluate, worlds))):
                asked.setdefault(canonicalize_name(wanted.name), set()).update(wanted.extras)
    assert asked.pop("vmlab", None) is None
    assert asked.keys() <= pinned.keys()
    missing = {name: extras - pinned[name] for name, extras in asked.items()}
    assert not any(missing.values()), missing


def test_every_python_of_the_classifiers_is_one_that_it_is_for() -> None:
    kinds = " ".join(PROJECT["project"]["classifiers"])
    named = re.findall(r"Python :: (3\.\d+)", kinds)
    assert set(named) <= {world["python_version"] for world in WORLDS}
    assert f">={named[0]}" == PROJECT["project"]["requires-python"]


def test_no_stamp_outlives_the_lock() -> None:
    """What .ci/prepare looks at is every file of the lock."""
    words = (ROOT / ".ci" / "prepare").read_text()
    assert all(f"requirements/{layer}.txt" in words for layer in LAYERS)
    assert {path.name for path in (ROOT / "requirements").iterdir()} == {
        f"{one}.txt" for one in LAYERS
    }
    for script in ("prepare", "run", "newest"):
        subprocess.run([require_program("bash"), "-n", ROOT / ".ci" / script], check=True)
