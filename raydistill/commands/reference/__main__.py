"""Writes the pages into `docs/reference/` of the working folder."""

from pathlib import Path

from raydistill.commands.reference import PAGES

for _name, _page in PAGES.items():
    Path("docs/reference", _name).write_text(_page())
