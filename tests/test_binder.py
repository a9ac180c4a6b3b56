"""binder/: what repo2docker makes of it, and its postBuild in an environment that has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from tests.support import ROOT, require_module

BINDER = ROOT / "binder"
#: prints what is installed in another version than the lock's
LOCKED = r"""
import re
from importlib.metadata import version
for layer in ("base", "soft", "lab"):
    text = open(f"requirements/{layer}.txt").read()
    for name, wanted in re.findall(r"(?m)^([\w.-]+)==(\S+) \\$", text):
        if version(name) != wanted:
            print(name, version(name), wanted)
"""
NOT_COPIED = shutil.ignore_patterns(
    ".*_cache",
    ".git",
    ".venv",
    ".hypothesis",
    ".benchmarks",
    "__pycache__",
    "node_modules",
    "artifacts",
)


def test_its_scripts_can_be_run() -> None:
    for name in ("postBuild", "start"):
        assert os.access(BINDER / name, os.X_OK)
        subprocess.run(["bash", "-n", BINDER / name], check=True)


def test_start_hands_over() -> None:
    done = subprocess.run(
        [BINDER / "start", "printf", "%s|", "a b", "c"], check=True, capture_output=True, text=True
    )
    assert done.stdout == "a b|c|"


def test_the_badge_leads_to_a_handout() -> None:
    assert "urlpath=lab/tree/handouts/01-first-vm.ipynb)" in (ROOT / "README.md").read_text()
    assert "\npython notebooks/handout.py\n" in (BINDER / "postBuild").read_text()


def test_it_follows_the_lock() -> None:
    """Its Python is one that the lock is for, and everything it installs is from there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert named == [f"-r ../requirements/{layer}.txt" for layer in ("base", "soft", "lab")]
    assert "pip install --quiet --no-cache-dir --no-deps" in (BINDER / "postBuild").read_text()


def test_repo2docker_reads_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports' own business
        require_module("repo2docker")
    done = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    text = done.stdout + done.stderr
    assert "Building conda environment for python=3.12" in text
    steps = [
        "apt-get install --yes --no-install-recommends binutils",
        # the requirements are elsewhere in the repository: it must be there before they are installed
        "src/ ${REPO_DIR}/\n",
        'pip install --no-cache-dir -r "binder/requirements.txt"',
        "RUN ./binder/postBuild",
        'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ]
    places = [text.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the tree, and an environment like that of the image after `pip install`."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
    place = tmp_path / "env"
    # no ensurepip on Debian without python3-venv: this interpreter's own pip serves
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        place / "bin" / "python",
        "install",
        "--quiet",
    ]
    command.append("--disable-pip-version-check")
    env = {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
    }
    for wanted in (["pip"], ["-r", "binder/requirements.txt"]):
        subprocess.run(
            [str(word) for word in (*command, *wanted)],
            cwd=tree,
            check=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
    return tree, env


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_postbuild_in_a_clean_environment(image: tuple[Path, dict[str, str]]) -> None:
    require_module("pip")
    tree, env = image

    def run(*command: str) -> str:
        return subprocess.run(
            command, cwd=tree, env=env, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    run("./binder/postBuild")
    assert run("python", "-c", LOCKED) == ""
    # from elsewhere than the tree's root, as a notebook does it: the wheel has all that is needed
    tree = tree / "binder"
    where = run("python", "-c", "import vmlab; print(vmlab.__file__)")
    assert "site-packages" in where
    assert "Hello" in run("bash", "-c", "vmlab run hello --engine soft")
    assert "python3" in run("jupyter", "kernelspec", "list")
    config = tree.parents[1] / "env" / "etc" / "jupyter" / "labconfig" / "page_config.json"
    assert "announcements" in config.read_text()
    cache = Path(env["HOME"], ".cache", "vmlab", "linux", "debian-x86_64")
    assert (cache / "kernel").exists(), "what notebook 9 boots"
