"""Dotted paths into configs: what `--set student.terms.mi.weight=0.1` and the parameters of a search space
name.

A path that does not exist is refused with the nearest one that does.
"""

import difflib
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from raydistill.config import renamed
from raydistill.config.variants import Variants
from raydistill.errors import ConfigError
from raydistill.reading import parse_json

Model = TypeVar("Model", bound=BaseModel)


def leaves(model: BaseModel | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every dotted path of a config, or of sections by name, -> its value."""
    out: dict[str, Any] = {}
    named = model if isinstance(model, Mapping) else dict(model)
    for name, value in named.items():
        if isinstance(value, BaseModel) or _are_sections(value):
            out |= leaves(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


def _are_sections(value: object) -> bool:
    """Whether a field holds sections by name, such as `student.terms`."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(each, BaseModel) for each in value.values())
    )


def nearest(given: str, valid: list[str]) -> str:
    """The valid name that is most like `given`, for error messages."""
    close = difflib.get_close_matches(given[:200], valid, n=1, cutoff=0.0)
    return close[0] if close else "(there is none)"


def with_values(config: Model, values: Mapping[str, Any], *, where: str) -> Model:
    """A copy of `config` with dotted paths set, checked again as a whole.

    A `kind` that changes replaces its whole section: the other fields of the section start at the defaults of
    the new kind, unless `values` sets them too. Fields without a default keep their values where both kinds
    have them, in the same type.

    Args:
        where: where the values come from, for error messages.

    Raises:
        ConfigError: unknown paths (each with the nearest valid one) or values that their fields refuse.
    """
    data, valid = config.model_dump(mode="json"), list(leaves(config))
    values = {renamed.path_now(path): value for path, value in values.items()}
    for path, value in values.items():
        classes, (section, _, name) = _classes_at(config, path), path.rpartition(".")
        if not classes or value == _holder(data, path).get(name):
            continue
        if not isinstance(value, str) or value not in classes:
            close = nearest(shown(value), list(classes))
            known = f"Known: {', '.join(classes)}. Nearest: {close!r}. One of a plug-in needs --plugin."
            raise ConfigError(f"{where}: {path}: there is no {shown(value)}. {known}")
        before = _section_at(config, section)  # None: the section is new among those of its kind
        kept = _required_of_both(type(before), classes[value])
        held = {each: _as_json(getattr(before, each)) for each in kept}
        new = _defaults(classes[value]) | held | {name: value}
        _holder(data, section)[section.rpartition(".")[2]] = new
        outside = [each for each in valid if not each.startswith(f"{section}.")]
        inside = [each for each in valid if each.startswith(tuple(f"{section}.{name}." for name in kept))]
        valid = outside + inside + _paths(classes[value], f"{section}.")
    if unknown := [path for path in values if path not in valid]:
        raise ConfigError(f"{where}: {' '.join(_unknown(path, valid, data, config) for path in unknown)}")
    for path, value in values.items():
        _holder(data, path)[path.rpartition(".")[2]] = value
    return validated(type(config), data, where=where)


def _unknown(path: str, valid: list[str], data: dict[str, Any], config: BaseModel) -> str:
    """Why a path is refused, and what to give."""
    if inside := [each for each in valid if each.startswith(f"{path}.")]:
        kinds = ", ".join(_classes_at(config, f"{path}.kind"))
        field = f"'{path}.kind' ({kinds})" if kinds else repr(inside[0])
        return f"{path!r} is a whole section; give its fields, such as {field}."
    owner, _, name = path.rpartition(".")[0].rpartition(".")
    named = _section_at(config, owner)
    if _are_sections(named) and name not in named:  # type: ignore[operator]
        return f"there is no {owner}.{name}; to add one, give its kind, too: '{owner}.{name}.kind'."
    for above in (path[:place] for place, letter in enumerate(path) if letter == "."):
        if above in valid and _holder(data, above)[above.rpartition(".")[2]] is None:
            return f"{above!r} is none, so it has no fields; give it whole, as JSON: '{above}={{...}}'."
    kind = f"{path.rpartition('.')[0]}.kind"
    there = f" where {kind} is {_holder(data, kind)['kind']!r}" if kind in valid else ""
    return f"there is no config path {path!r}{there}. The nearest valid path is {nearest(path, valid)!r}."


def _holder(data: dict[str, Any], path: str) -> dict[str, Any]:
    """The dictionary that holds the last name of a dotted path. A section that is absent is added."""
    for parent in path.split(".")[:-1]:
        data = data.setdefault(parent, {})
    return data


def _classes_at(config: BaseModel, path: str) -> dict[str, type[BaseModel]]:
    """Value -> class, where `path` is the field that distinguishes the classes of a section; else nothing."""
    if "." not in path:
        return {}
    *parents, section, name = path.split(".")
    owner = _section_at(config, ".".join(parents))
    found: list[Any] = []
    if isinstance(owner, BaseModel) and section in type(owner).model_fields:
        found = type(owner).model_fields[section].metadata
    elif isinstance(owner, dict) and isinstance(
        holder := _section_at(config, ".".join(parents[:-1])), BaseModel
    ):
        # sections by name: dict[name, Annotated[Section, Variants]]
        found = list(get_args(get_args(type(holder).model_fields[parents[-1]].annotation)[1]))
    for variants in found:
        if isinstance(variants, Variants) and variants.tag == name:
            return dict(variants.classes)
    return {}


def _section_at(config: BaseModel, path: str) -> object:
    """The section at a dotted path, "" for the whole config; None: there is none."""
    section: object = config
    for name in path.split(".") if path else ():
        section = section.get(name) if isinstance(section, dict) else getattr(section, name, None)
    return section


def _required_of_both(old: type, new: type[BaseModel]) -> list[str]:
    """The fields that have no default in `new`, and the same type in `old`."""
    fields = old.model_fields if issubclass(old, BaseModel) else {}
    return [
        name
        for name, field in new.model_fields.items()
        if field.is_required() and name in fields and fields[name].annotation == field.annotation
    ]


def _as_json(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The default values of a class as JSON data."""
    fields = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    return {name: _as_json(value) for name, value in fields.items()}


def _paths(model: type[BaseModel], prefix: str) -> list[str]:
    """The dotted paths that a config of this class has, as far as its classes and defaults tell."""
    out: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            out += leaves(field.default, f"{prefix}{name}.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            out += _paths(field.annotation, f"{prefix}{name}.")
        else:
            out.append(f"{prefix}{name}")
    return out


def with_unchecked_values(config: Model, values: Mapping[str, Any]) -> Model:
    """`with_values` without checks, for paths and values that were checked before: thousands a second."""
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, dot, rest = path.partition(".")
        if dot:
            inner.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    sections = {name: _with_unchecked(getattr(config, name), rest) for name, rest in inner.items()}
    return config.model_copy(update=own | sections)


def _with_unchecked(section: Any, values: Mapping[str, Any]) -> Any:
    """`with_unchecked_values` of a section, or of sections by name."""
    if isinstance(section, BaseModel):
        return with_unchecked_values(section, values)
    below: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        below.setdefault(name, {})[rest] = value
    return section | {name: with_unchecked_values(section[name], rest) for name, rest in below.items()}


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["student.terms.mi.weight=0.1"]` -> `{"student.terms.mi.weight": 0.1}`. Values are JSON; anything else
    is text.

    Raises:
        ConfigError: an assignment without a path or without "=".
    """
    out: dict[str, Any] = {}
    for item in assignments:
        path, equals, text = item.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"--set {item}: give it as dotted.path=value, for example --set student.terms.mi.weight=0.1"
            )
        try:
            out[path] = parse_json(text)
        except ValueError:
            out[path] = text
    return out


def _dotted(location: tuple[int | str, ...], data: object) -> str:
    """One of pydantic's locations as a path, without the names of classes that pydantic puts in between."""
    parts = []
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if part == "[key]" or (isinstance(data, dict) and part not in data and not is_last):
            continue
        parts.append(str(part))
        data = data[part] if isinstance(data, dict) and part in data else None
    return ".".join(parts) or "(whole config)"


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict = 4, 20, 20, 20
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


def shown(value: object) -> str:
    """A value as an error message shows it, in 200 characters; it never fails or takes long."""
    try:
        text = _REPR.repr(value)
    except Exception as error:  # thousands of digits, an object of the user's
        return f"a {type(value).__name__} that cannot be shown: {type(error).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def joined(problems: list[str]) -> str:
    """The first eight problems in a line, and how many others there are."""
    return "; ".join(problems[:8] + [f"and {len(problems) - 8} more"] * (len(problems) > 8))


def message_of(item: ErrorDetails) -> str:
    """What pydantic says is wrong, in words that say what is allowed."""
    words = {
        "int_parsing_size": "Input should be a whole number of at most 63 bits",
        "missing_argument": "Field required",  # what pydantic 2.12 says of a named tuple
    }
    return words.get(item["type"], item["msg"])


def validated(model: type[Model], data: object, *, where: str) -> Model:
    """`data` as an object of the class `model`.

    Raises:
        ConfigError: `data` does not fit; with each dotted path, what was given and what is allowed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            path = _dotted(item["loc"], data)
            problems.append(f"{path}: {message_of(item)} (given: {shown(item['input'])})")
        raise ConfigError(f"{where}: {joined(problems)}") from None
