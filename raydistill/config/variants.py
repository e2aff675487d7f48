"""Sections of a config that may be of several classes, told apart by one field. Open: a plug-in adds classes of its own."""

from typing import Any

from pydantic import BaseModel, SerializationInfo
from pydantic_core import PydanticCustomError, core_schema

PLUGIN_DIGESTS: dict[type[BaseModel], str] = {}
"""Config class of a plug-in -> digest of the plug-in. Part of the digest of every config that has a section of that class."""


class Variants:
    """The classes of one section, by the value of their field `tag`. As `Annotated[Base, Variants(...)]` it is the type of the section."""

    def __init__(self, tag: str, *classes: "type[BaseModel] | Variants"):
        """Of `classes`, and of all that other kinds have or will have."""
        self.tag = tag
        self._own: dict[str, type[BaseModel]] = {}
        self._others = [each for each in classes if isinstance(each, Variants)]
        for each in classes:
            if not isinstance(each, Variants):
                self.add(each)

    def add(self, config: type[BaseModel]) -> None:
        self._own[config.model_fields[self.tag].default] = config

    @property
    def classes(self) -> dict[str, type[BaseModel]]:
        found = dict(self._own)
        for other in self._others:
            found |= other.classes
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
        return core_schema.no_info_plain_validator_function(self._validated, serialization=dump)

    def _validated(self, value: Any) -> BaseModel:
        if isinstance(value, BaseModel) and isinstance(value, tuple(self.classes.values())):
            return value
        given = value.get(self.tag) if isinstance(value, dict) else getattr(value, self.tag, None)
        if not isinstance(given, str) or given not in self.classes:
            known = ", ".join(self.classes)
            raise PydanticCustomError(
                "unknown_kind", f"{self.tag} is one of {known}; that of a plug-in needs its --plugin"
            )
        return self.classes[given].model_validate(value)


def _dumped(value: BaseModel, info: SerializationInfo) -> Any:
    return value.model_dump(mode=info.mode)
