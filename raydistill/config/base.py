"""What every config is made of: frozen models, stored content, and the digest that identifies a config."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from raydistill.config.variants import PLUGIN_DIGESTS


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


LOCATION, EXECUTION = "location", "execution"
Location = Annotated[str, LOCATION]
"""A path. Not part of a digest: the digest of the content stands beside it."""


Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]


class Optimizer(Frozen):
    learning_rate: PositiveFloat
    betas: Betas
    decay_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the budget after which the learning rate falls linearly to 0; 1.0: constant."""


class Stored(Frozen):
    """Something on disk with the digest of its content: prepared data, or a trained network's folder."""

    path: Location
    digest: str


def canonical(value: Any) -> Any:
    """`value` as JSON data, without the places where things lie and the way they are carried out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = {
            name: canonical(getattr(value, name))
            for name in fields
            if not {LOCATION, EXECUTION} & set(fields[name].metadata)
        }
        return kept | ({"plugin": PLUGIN_DIGESTS[type(value)]} if type(value) in PLUGIN_DIGESTS else {})
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
