"""The files of `assets/`, and templates that are filled in."""

import re
from collections.abc import Mapping
from pathlib import Path


def asset(name: str) -> str:
    """The text of a file of `assets/`."""
    return (Path(__file__).with_name("assets") / name).read_text(encoding="utf-8")


def filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with each {{name}} replaced, in one pass: a name in what is filled in is left as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], template)
