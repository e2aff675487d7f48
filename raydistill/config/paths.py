"""Dotted paths into configs: what `--set student.mi.weight=0.1` and a search space name, checked with the nearest valid name."""

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from raydistill.config import renamed
from raydistill.config.variants import Variants
from raydistill.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def leaves(model: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every dotted path of a config with its value."""
    out: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            out |= leaves(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


def nearest(given: str, valid: list[str]) -> str:
    """The valid name closest to what was given, for error messages."""
    close = difflib.get_close_matches(given, valid, n=1, cutoff=0.0)
    return close[0] if close else "(there is none)"


def with_values(config: Model, values: Mapping[str, Any], *, where: str) -> Model:
    """A copy of `config` with dotted paths set, checked again as a whole.

    A `kind` that changes replaces the whole section: its other fields start at the defaults of the new kind, unless they are set here too.

    Raises:
        ConfigError: unknown paths (each with the nearest valid one) or values that their fields refuse.
    """
    data, valid = config.model_dump(mode="json"), list(leaves(config))
    values = {renamed.path_now(path): value for path, value in values.items()}
    for path, value in values.items():
        variants, (section, _, name) = _variants_at(config, path), path.rpartition(".")
        if not variants or value == _holder(data, path)[name]:
            continue
        if not isinstance(value, str) or value not in variants:
            close = nearest(str(value), list(variants))
            known = f"Known: {', '.join(variants)}. Nearest: {close!r}. One of a plug-in needs --plugin."
            raise ConfigError(f"{where}: {path}: there is no {value!r}. {known}")
        _holder(data, section)[section.rpartition(".")[2]] = _defaults(variants[value]) | {name: value}
        valid = [known for known in valid if not known.startswith(f"{section}.")] + _paths(
            variants[value], f"{section}."
        )
    if unknown := [path for path in values if path not in valid]:
        raise ConfigError(f"{where}: {' '.join(_unknown(path, valid, data) for path in unknown)}")
    for path, value in values.items():
        _holder(data, path)[path.rpartition(".")[2]] = value
    return validated(type(config), data, where=where)


def _unknown(path: str, valid: list[str], data: dict[str, Any]) -> str:
    kind = f"{path.rpartition('.')[0]}.kind"
    there = f" where {kind} is {_holder(data, kind)['kind']!r}" if kind in valid else ""
    return f"there is no config path {path!r}{there}. The nearest valid path is {nearest(path, valid)!r}."


def _holder(data: dict[str, Any], path: str) -> dict[str, Any]:
    """The dictionary that holds the end of a dotted path, made where a section is absent."""
    for parent in path.split(".")[:-1]:
        data = data.setdefault(parent, {})
    return data


def _variants_at(config: BaseModel, path: str) -> dict[str, type[BaseModel]]:
    """Value -> class, where `path` is the field that tells the classes of a section apart; else nothing."""
    parents, found = path.split("."), dict[str, type[BaseModel]]()
    if len(parents) > 1:
        *parents, section, name = parents
        owner: Any = config
        for parent in parents:
            owner = getattr(owner, parent, None)
        field = type(owner).model_fields.get(section) if isinstance(owner, BaseModel) else None
        for variants in field.metadata if field is not None else ():
            if isinstance(variants, Variants) and variants.tag == name:
                found = dict(variants.classes)
    return found


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    fields = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in fields.items()
    }


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


def with_checked(config: Model, values: Mapping[str, Any]) -> Model:
    """`with_values` for paths and values that were checked before: thousands a second."""
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, dot, rest = path.partition(".")
        if dot:
            inner.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    return config.model_copy(
        update=own | {name: with_checked(getattr(config, name), rest) for name, rest in inner.items()}
    )


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["student.mi.weight=0.1"]` -> `{"student.mi.weight": 0.1}`; values are JSON, anything else is text."""
    out: dict[str, Any] = {}
    for item in assignments:
        path, equals, text = item.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"--set {item}: give it as dotted.path=value, for example --set student.mi.weight=0.1"
            )
        try:
            out[path] = json.loads(text)
        except json.JSONDecodeError:
            out[path] = text
    return out


def _dotted(location: tuple[int | str, ...], data: Any) -> str:
    """A path of pydantic's, without the tags of unions that it puts between the names."""
    parts = []
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(data, dict) and part not in data and not is_last:
            continue
        parts.append(str(part))
        data = data[part] if isinstance(data, dict) and part in data else None
    return ".".join(parts) or "(whole config)"


def validated(model: type[Model], data: Any, *, where: str) -> Model:
    """`data` as `model`, or a ConfigError that names each dotted path, what was given and what is allowed."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            path = _dotted(item["loc"], data)
            problems.append(f"{path}: {item['msg']} (given: {item['input']!r})")
        raise ConfigError(f"{where}: " + "; ".join(problems)) from None
