"""Modules under the names that they had before there were packages, understood for one release.

Plug-ins, batch files and model cards import them. `from raydistill.architectures import Generator` works,
with a warning that says the new name. Nothing in raydistill itself uses an old name.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from raydistill.errors import say_renamed

MOVED = {
    "architectures": ("config.architectures", "config.base"),
    "batch": ("config.batch",),
    "cost": ("models.cost",),
    "finished": ("exchange.generator_file",),
    "presets": ("config.presets", "config.term_presets"),
    "terms": ("training.terms",),
}
"""Old module -> the modules that have its names now."""
PUBLIC = ("raydistill.config.presets",)
"""Modules that are public under the old name, too: `raydistill.presets` is a part of the public face."""
RENAMED = {"Surroundings": "TermSetup"}
"""Old name -> new name, of classes and functions of the old modules."""


class _Forwarding(Loader):
    """Makes modules under old names, whose attributes are looked up in the new modules."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module without content: each attribute is looked up when it is asked for."""
        homes = tuple(f"raydistill.{home}" for home in MOVED[spec.name.removeprefix("raydistill.")])
        module = ModuleType(spec.name, f"Moved to {' and '.join(homes)}.")

        def look_up(name: str) -> object:
            new_name = RENAMED.get(name, name)
            for home in homes:
                value = getattr(importlib.import_module(home), new_name, None)
                if value is not None and not name.startswith("__"):
                    if home not in PUBLIC:
                        say_renamed(f"{spec.name}.{name}", f"{home}.{new_name}")
                    return value
            raise AttributeError(
                f"module {spec.name!r} has no attribute {name!r}; it has moved to {' and '.join(homes)}"
            )

        module.__getattr__ = look_up  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed."""


class _Finder(MetaPathFinder):
    """Finds the modules of `MOVED`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How an old module is made; None for any other name."""
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, _Forwarding()) if package == "raydistill" and name in MOVED else None


def install() -> None:
    """Make the old names importable. Called when raydistill is imported; calling it again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
