"""Modules by the names that they had before there were packages, for one release: what plug-ins, batch files and model cards import.

`from raydistill.architectures import Generator` works and says the new name. Nothing of raydistill itself uses an old one.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from raydistill.errors import say_renamed

MOVED = {
    "architectures": ("config.architectures", "config.base"),
    "batch": ("config.batch",),
    "cost": ("models.cost",),
    "finished": ("exchange.generator_file",),
    "presets": ("config.presets",),
    "terms": ("training.terms",),
}
"""Old module -> where its names are now."""
RENAMED = {"Surroundings": "TermSetup"}
"""Old name -> new name, of what an old module had."""


class _Forwarding(Loader):
    """Makes a module whose names are looked up where they are now."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        homes = tuple(f"raydistill.{home}" for home in MOVED[spec.name.removeprefix("raydistill.")])
        module = ModuleType(spec.name, f"Moved to {' and '.join(homes)}.")

        def look_up(name: str) -> Any:
            for home in homes:
                found = getattr(importlib.import_module(home), RENAMED.get(name, name), None)
                if found is not None and not name.startswith("__"):
                    say_renamed(f"{spec.name}.{name}", f"{home}.{RENAMED.get(name, name)}")
                    return found
            raise AttributeError(
                f"module {spec.name!r} has no attribute {name!r}; it has moved to {' and '.join(homes)}"
            )

        module.__getattr__ = look_up  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: every name is looked up when it is asked for."""


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, _Forwarding()) if package == "raydistill" and name in MOVED else None


def install() -> None:
    """From here on the old names can be imported. Called once, when raydistill is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
