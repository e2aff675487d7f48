"""The files that docs/how-to/plug-ins.md prints, and plug-ins that are forgotten again after a test."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from raydistill import plugins
from raydistill.config.architectures import NOISE_VARIANTS, PICTURE_VARIANTS
from raydistill.config.bases import BASE_VARIANTS
from raydistill.config.data import DATA_VARIANTS
from raydistill.config.terms import TERM_VARIANTS
from raydistill.config.training import TEACHER_VARIANTS
from raydistill.config.variants import PLUGIN_DIGESTS

PAGE = (Path(__file__).parent.parent / "docs/how-to/plug-ins.md").read_text()
FILES: dict[str, str] = {
    name: text for text, name in re.findall(r"^```\w+\n(# (\S+)\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}
"""Name -> text, as printed."""


def written(folder: Path, *names: str) -> list[str]:
    """Paths of these files of the page, written to `folder`."""
    for name in names:
        (folder / name).write_text(FILES[name])
    return [str(folder / name) for name in names]


@contextlib.contextmanager
def forgotten_after() -> Iterator[None]:
    """Plug-ins that are loaded meanwhile are unknown afterwards."""
    tables: list[dict] = [registry.entries for registry in plugins.REGISTRIES.values()]
    tables += [
        kinds._own
        for kinds in (
            PICTURE_VARIANTS,
            NOISE_VARIANTS,
            BASE_VARIANTS,
            TERM_VARIANTS,
            DATA_VARIANTS,
            TEACHER_VARIANTS,
        )
    ] + [
        PLUGIN_DIGESTS,
        plugins.LOADED,
    ]
    before = [dict(table) for table in tables]
    finders = list(sys.meta_path)
    try:
        yield
    finally:
        for plugin in plugins.LOADED.values():
            for name in plugin.sources:
                sys.modules.pop(name, None)
        for table, kept in zip(tables, before):
            table.clear()
            table.update(kept)
        sys.meta_path[:] = finders
