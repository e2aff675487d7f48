"""Prints constraints for pip: the lower bound of each dependency of pyproject.toml, as `==`.

`make oldest` installs them into an environment of their own. This runs before the package is installed, so
it needs nothing but Python.
"""

import re
import tomllib
from pathlib import Path


def lowest(pyproject: Path) -> list[str]:
    """`name==version` for each requirement that has a lower bound, sorted by name."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], extras["onnx"], extras["test"]]
    found = {}
    for requirement in (each for group in lists for each in group):
        if match := re.match(r"([\w.-]+)(?:\[[\w,]+\])?.*?>=\s*([\d.]+)", requirement):
            found[match[1]] = match[2]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).parent.parent / "pyproject.toml")))
