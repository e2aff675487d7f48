"""What every config is made of: frozen models, stored content, and the digest that identifies a config."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from raydistill.config.bounds import LearningRate
from raydistill.config.variants import PLUGIN_DIGESTS


class Frozen(BaseModel):
    """Base class of all configs: it cannot be changed, and it refuses unknown keys, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


LOCATION, EXECUTION, REMARK = "location", "execution", "remark"
"""Markers that annotate a field which is left out of the digest: a field with LOCATION says where something
lies, one with EXECUTION how something is computed, one with REMARK something to a person. None changes a
result."""
Location = Annotated[str, LOCATION]
"""A path. The digest of the content stands in a field beside it."""

_LONGEST_PATH, _LONGEST_NAME = 4000, 250
"""Bytes of a path and of a name in it. Systems allow 4,096 and 255, and names are made longer here."""


def user_path(text: str) -> str:
    """A path or name of a file as a person types it, with `~` and `~user` replaced by the home folder.

    Raises:
        ValueError: there is no such user, or the path is longer than a file system allows.
    """
    if text.startswith("~"):
        expanded = os.path.expanduser(text)
        if expanded == text:
            user = text.partition("/")[0]
            raise ValueError(f"{user}: there is no such user; for a folder of that name give ./{user}")
        text = expanded
    longest = 0 if "://" in text else max(len(os.fsencode(name)) for name in text.split("/"))
    if (size := len(os.fsencode(text))) > _LONGEST_PATH or longest > _LONGEST_NAME:
        raise ValueError(
            f"a path of {size:,} bytes with names of up to {longest:,}; "
            f"allowed are {_LONGEST_PATH:,} and {_LONGEST_NAME}"
        )
    return text


UserPath = Annotated[str, AfterValidator(user_path)]
"""A path that a person types."""

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
"""Decay rates of Adam's first and second moments."""


class Optimizer(Frozen):
    """An Adam optimizer."""

    learning_rate: LearningRate
    betas: Betas
    decay_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The learning rate is constant up to this share of the budget, then falls linearly to 0 at its end; 1.0:
    it is constant throughout."""
    warmup_end: Annotated[float, Field(ge=0, lt=1, exclude_if=lambda share: share == 0)] = 0.0
    """The learning rate rises linearly from 0 up to this share of the budget; 0: there is no warm-up."""

    @model_validator(mode="after")
    def _warms_up_before_it_falls(self) -> Self:
        if self.warmup_end > self.decay_start:
            raise ValueError(
                f"warmup_end {self.warmup_end}: the learning rate falls from {self.decay_start} of the "
                "budget on (decay_start); warm up before"
            )
        return self


class Stored(Frozen):
    """Something on disk with the digest of its content: prepared data, or the folder of a trained network."""

    path: Location
    digest: str


def canonical(value: object) -> object:
    """`value` as JSON data, without fields that are marked as LOCATION, EXECUTION or REMARK, or left out of
    JSON.

    A config of a plug-in's class gets the key "plugin" with the digest of the plug-in.
    """
    if isinstance(value, BaseModel):
        model = type(value)
        data = {
            name: canonical(getattr(value, name))
            for name, field in model.model_fields.items()
            if not {LOCATION, EXECUTION, REMARK} & set(field.metadata)
            and not (field.exclude_if is not None and field.exclude_if(getattr(value, name)))
        }
        return data | ({"plugin": PLUGIN_DIGESTS[model]} if model in PLUGIN_DIGESTS else {})
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value


def digest(value: object) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
