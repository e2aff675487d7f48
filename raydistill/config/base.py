"""What every config is made of: frozen models, stored content, and the digest that identifies a config."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from raydistill.config.bounds import AmountAboveZero
from raydistill.config.variants import PLUGIN_DIGESTS


class Frozen(BaseModel):
    """Base class of all configs: it cannot be changed, and it refuses unknown keys, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


LOCATION, EXECUTION = "location", "execution"
"""Markers that annotate a field which is left out of the digest: a field with LOCATION says where something
lies, one with EXECUTION how something is computed. Neither changes a result."""
Location = Annotated[str, LOCATION]
"""A path. The digest of the content stands in a field beside it."""

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
"""Decay rates of Adam's first and second moments."""


class Optimizer(Frozen):
    """An Adam optimizer."""

    learning_rate: AmountAboveZero
    betas: Betas
    decay_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The learning rate is constant up to this share of the budget, then falls linearly to 0 at its end; 1.0:
    it is constant throughout."""


class Stored(Frozen):
    """Something on disk with the digest of its content: prepared data, or the folder of a trained network."""

    path: Location
    digest: str


def canonical(value: object) -> object:
    """`value` as JSON data, without the fields that are marked as LOCATION or EXECUTION.

    A config of a plug-in's class gets the key "plugin" with the digest of the plug-in.
    """
    if isinstance(value, BaseModel):
        model = type(value)
        data = {
            name: canonical(getattr(value, name))
            for name, field in model.model_fields.items()
            if not {LOCATION, EXECUTION} & set(field.metadata)
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
