"""Objects that a user's Python file defines: a search space, a batch."""

import importlib.util
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from raydistill.config.paths import joined, message_of, shown
from raydistill.errors import InputError
from raydistill.reading import MOST_TEXT_BYTES, regular

Defined = TypeVar("Defined", bound=BaseModel)


def definition_folders() -> list[Path]:
    """Where a definition is looked for by name: in `./search_spaces`, then among the installed ones."""
    spec = importlib.util.find_spec("search_spaces")
    installed = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    return [Path("search_spaces"), *installed]


def load_definition(path: Path, name: str, kind: type[Defined], error: type[InputError]) -> Defined:
    """The object `name` of the class `kind` that a Python file defines.

    Raises:
        `error`: the file fails or ends the process, or does not define the object.
    """
    try:
        regular(path, MOST_TEXT_BYTES)
    except OSError as raised:
        raise error(f"{path}: cannot be read: {raised.strerror}; give a .py file") from None
    spec = importlib.util.spec_from_file_location(f"defined_in_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        value = getattr(module, name, None)
        if isinstance(value, kind):  # checked again, because model_copy(update=...) checks nothing
            return kind.model_validate(value.model_dump(warnings=False))
    except ValidationError as raised:
        problems = []
        for item in raised.errors():
            location = ".".join(map(str, item["loc"]))
            given = f" (given: {shown(item['input'])})" if location else ""
            problems.append(f"{location or name}: {message_of(item)}{given}")
        raise error(f"{path}: {joined(problems)}") from raised
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # whatever the file does, sys.exit(0) too: it is the user's code
        raise error(f"{path}: {type(raised).__name__}: {raised}") from raised
    raise error(f"{path}: must define {name} = {kind.__name__}(...), found {type(value).__name__}")
