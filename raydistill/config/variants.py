"""Sections of a config that may be of several classes, which one field distinguishes; plug-ins add some."""

from pydantic import BaseModel, GetCoreSchemaHandler, SerializationInfo
from pydantic_core import PydanticCustomError, core_schema

PLUGIN_DIGESTS: dict[object, str] = {}
"""What a plug-in added -> digest of the plug-in: the config class of an entry, or the entry itself where it
has none. It is part of the digest of every config that has a section of that class, or names that entry."""


class Variants:
    """The classes that one section may be of, by the value of their field `tag`.

    `Annotated[Base, Variants(...)]` is the type of such a section.
    """

    def __init__(self, tag: str, *classes: "type[BaseModel] | Variants"):
        """`classes` may contain other `Variants`: all that these have now or get later is included."""
        self.tag = tag
        self._own: dict[str, type[BaseModel]] = {}
        self._others = [each for each in classes if isinstance(each, Variants)]
        for each in classes:
            if not isinstance(each, Variants):
                self.add(each)

    def add(self, config: type[BaseModel]) -> None:
        """Allow one more class, under the default value of its field `tag`."""
        self._own[config.model_fields[self.tag].default] = config

    @property
    def classes(self) -> dict[str, type[BaseModel]]:
        """Value of the field `tag` -> class."""
        out = dict(self._own)
        for other in self._others:
            out |= other.classes
        return out

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
        return core_schema.no_info_plain_validator_function(self._validated, serialization=dump)

    def _validated(self, value: object) -> BaseModel:
        """`value`, a config or a dictionary, as an object of the class that its field `tag` names."""
        classes = self.classes
        if isinstance(value, BaseModel) and isinstance(value, tuple(classes.values())):
            return value
        name = value.get(self.tag) if isinstance(value, dict) else getattr(value, self.tag, None)
        if not isinstance(name, str) or name not in classes:
            names = ", ".join(classes)
            raise PydanticCustomError(
                "unknown_kind", f"{self.tag} is one of {names}; that of a plug-in needs its --plugin"
            )
        return classes[name].model_validate(value)


def _dumped(value: BaseModel, info: SerializationInfo) -> dict[str, object]:
    return value.model_dump(mode=info.mode)
