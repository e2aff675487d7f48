"""The pages of docs/reference/, made of the code; `python -m raydistill.commands.reference` writes them.

A test compares each page with what its function returns.
"""

from collections.abc import Callable

from raydistill.commands.reference import command_line
from raydistill.commands.reference.models import config_page, spaces_page
from raydistill.commands.reference.python import python_page
from raydistill.commands.reference.records import errors_page, metrics_page, tables_page

PAGES: dict[str, Callable[[], str]] = {
    "command-line.md": command_line.page,
    "config.md": config_page,
    "spaces-and-batches.md": spaces_page,
    "metrics.md": metrics_page,
    "tables-and-files.md": tables_page,
    "errors.md": errors_page,
    "python.md": python_page,
}
"""Name of a file in docs/reference/ -> its text."""
