"""Objects that a user's Python file defines: a search space, a batch."""

import importlib.util
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from raydistill.errors import InputError

Defined = TypeVar("Defined")


def load_definition(path: Path, name: str, kind: type[Defined], error: type[InputError]) -> Defined:
    """The object `name` of the class `kind` that a Python file defines.

    Raises:
        `error`: the file fails, or does not define it.
    """
    spec = importlib.util.spec_from_file_location(f"defined_in_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ValidationError as raised:
        problems = []
        for item in raised.errors():
            location = ".".join(map(str, item["loc"]))
            given = f" (given: {item['input']!r})" if location else ""
            problems.append(f"{location or name}: {item['msg']}{given}")
        raise error(f"{path}: {'; '.join(problems)}") from raised
    except Exception as raised:  # whatever the file does: it is the user's code
        raise error(f"{path}: {type(raised).__name__}: {raised}") from raised
    value = getattr(module, name, None)
    if not isinstance(value, kind):
        raise error(f"{path}: must define {name} = {kind.__name__}(...), found {type(value).__name__}")
    return value
