"""Prints constraints for pip: the lower bound of each dependency of pyproject.toml, as `==`.

`make oldest` installs them into an environment of their own. The tools of the tests come at the versions that
pip finds. This runs before the package is installed, so it needs nothing but Python.
"""

import re
import tomllib
from pathlib import Path


def lowest(pyproject: Path) -> list[str]:
    """`name==version` for each requirement that has a lower bound, sorted by name."""
    project = tomllib.loads(pyproject.read_text())["project"]
    found = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["onnx"]]:
        if match := re.match(r"([\w.-]+)(?:\[[\w,]+\])?.*?>=\s*([\d.]+)", requirement):
            found[match[1]] = match[2]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).parent.parent / "pyproject.toml")))
