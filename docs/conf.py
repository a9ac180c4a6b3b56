"""The documentation site: `make docs`. What can be derived is written by generate.py before Sphinx reads it."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402  it lies beside this file

from vmlab import errors  # noqa: E402
from vmlab.renamed import Renamed, RenamedWarning  # noqa: E402

generate.write(HERE / "generated")

project = "vmlab"
author = "vmlab contributors"
copyright = author
html_title = "vmlab"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generated/tutorial/README.md"]
html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
# outputs are those that the notebooks hold; nothing runs here
nb_execution_mode = "off"
# live views cannot be: what is stored beside them is shown
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
# notebooks link to what lies beside them in the repository; their first headings are the notebooks' own
# `type` is an attribute of every device
suppress_warnings = [
    *("myst.xref_missing", "myst.header", "mystnb.mime_priority", "misc.highlighting_failure"),
    "ref.python",
]
default_role = "code"
# looking for what there is to describe finds the old names as well
warnings.simplefilter("ignore", RenamedWarning)


def parameters(thing: Any) -> list[str]:
    try:
        return [name for name in inspect.signature(thing).parameters if name != "self"]
    except (TypeError, ValueError):
        return []


def listed(lines: list[str], names: list[str]) -> list[str]:
    """Sentences that begin with an argument's name and a colon, with "Returns" or with one of our errors become a
    list of arguments, results and errors."""
    words = "|".join([*(f"{re.escape(name)}:" for name in names), "Returns", *errors.__all__])
    start = re.compile(rf"(?:^|(?<=[.;] ))({words}) ")
    kept: list[str] = []
    fields: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        first, *rest = start.split(" ".join(paragraph.split("\n")))
        if paragraph.startswith(" ") or not rest:
            kept.append(paragraph)
            continue
        kept += [first.strip()] * bool(first.strip())
        for word, text in zip(rest[::2], rest[1::2], strict=True):
            kind = f"param {word[:-1]}" if word[-1] == ":" else "raises " + word
            kind = "returns" if word == "Returns" else kind
            fields.append(f":{kind}: {text.strip().rstrip(';')}")
    return "\n\n".join([*kept, "\n".join(fields)]).split("\n")


def as_written(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: what is indented is shown as it is, and no word refers to anything."""
    lines[:] = listed(lines, parameters(thing))
    text: list[str] = []
    before = ""
    for line in lines:
        inside, was = line.startswith(" "), before.startswith(" ")
        if line and before and inside != was:
            text += ["", "::", ""] if inside else [""]
        elif inside and not before and not was and text and not text[-1]:
            text += ["::", ""] if "::" not in text[-2:] else []
        text.append(line if inside else re.sub(r"(?<![`\w])(\w+_)(?=\W|$)", r"``\1``", line))
        before = line or (before if inside else "")
    lines[:] = text


def is_old(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    return True if isinstance(thing, Renamed) else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_written)
    app.connect("autodoc-skip-member", is_old)
