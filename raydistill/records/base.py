"""Records: frozen, typed, and written to a file as they were read from one."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticKnownError

FROM_FILE = object()
"""Context of a validation: what is validated was read from a file."""


def _as_given(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> float:
    """Checks a number and leaves it as it is: a whole number stays one, so that it is written as it was.

    A file holds finite numbers only. What a training measured is refused when it is written.
    """
    number = float(handler(value))
    if info.context is FROM_FILE and not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    return value  # type: ignore[no-any-return]


Number = Annotated[float, WrapValidator(_as_given)]
"""A number of a file, which is finite there."""
NO_KEYS = ("function-wrap[_as_given()]", "int", "str", "bool")
"""Parts of a place in a record that are no keys of its file: they name a type."""


class Record(BaseModel):
    """A file of the ledger, or a part of one: keys of these types, and whatever else was written beside them.

    It is written as it was read or made: with these keys, in their order.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    _order: tuple[str, ...] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _notes_order(cls, data: Any, handler: ModelWrapValidatorHandler["Record"]) -> "Record":
        record = handler(data)
        if isinstance(data, Mapping):
            record._order = tuple(data)
        return record

    def __eq__(self, other: object) -> bool:
        """By what they say; in which order they say it does not count."""
        return (
            isinstance(other, Record)
            and type(self) is type(other)
            and (self.__dict__, self.model_extra) == (other.__dict__, other.model_extra)
        )

    def to_json(self) -> dict[str, Any]:
        """The content of its file, without the schema version where it was not read from one."""
        fields = type(self).model_fields.items()
        given = {(field.alias or name): name for name, field in fields if not field.exclude}
        content = {key: getattr(self, name) for key, name in given.items() if name in self.model_fields_set}
        content |= self.model_extra or {}
        keys = dict.fromkeys((*self._order, *content))
        return {key: _to_json(content[key]) for key in keys if key in content}


def _to_json(value: object) -> object:
    """A value of a record as it stands in a file."""
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    return value.to_json() if isinstance(value, Record) else value
