"""The scale on which an objective is modelled: minimised, perhaps by its logarithm, with outliers cut."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.config.space import Objective
from raydistill.search.surrogate import Array, GaussianProcess, Inputs

FEWEST = 3
"""Number of observations without which nothing is modelled."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""
_OUTLIER_SD = 3.0
_DECISIVE = 32
"""The first so many observations decide whether the logarithm is modelled."""
_CLEARLY = 3.0
"""How much larger the log density of observations must be where their logarithm is modelled."""


class Scale(NamedTuple):
    """How the values of an objective become those that are modelled."""

    sign: float
    """-1 for an objective that is maximised, else 1: the product is minimised."""
    is_log: bool
    """Whether the logarithm of the product is modelled."""
    cut: float
    """Modelled values are at most this."""
    reference: float
    """Reference of the hypervolume: the product with `sign`, no logarithm."""

    def modelled(self, values: Array) -> Array:
        """Values of the objective (n,) -> modelled values (n,)."""
        minimised = self.sign * values
        return np.minimum(np.log(minimised) if self.is_log else minimised, self.cut)


def scale_objective(
    objective: Objective, values: Array, sources: NDArray[np.int64], inputs: Inputs
) -> tuple[Scale, Array]:
    """The scale of this sweep's values (source 0), and all values as they are modelled, (n,).

    Values of other sources have their own scale; their median is then moved to that of this sweep. The
    logarithm is chosen for all sources together: by this sweep's values once there are enough of them, before
    that by the first source's. While this sweep has no value, the first source stands for it.

    Args:
        values: (n,)
        sources: (n,), the number of each value's source.
        inputs: n configurations.
    """
    groups = {int(source): sources == source for source in np.unique(sources)}
    first_other = min(groups, key=lambda source: (source == 0, source))
    num_own = int(groups[0].sum()) if 0 in groups else 0
    decisive = 0 if num_own >= FEWEST else first_other
    first = np.flatnonzero(groups[decisive])[:_DECISIVE]
    has_logs = bool((values > 0).all()) and objective.direction == "min"
    is_log = has_logs and _logarithm_is_better(objective, values[first], inputs.rows(first))
    base = min(groups)
    scale = _scale(objective, values[groups[base]], is_log)
    out = scale.modelled(values)
    for source in groups.keys() - {base}:
        group = groups[source]
        modelled = _scale(objective, values[group], is_log).modelled(values[group])
        out[group] = modelled - np.median(modelled) + np.median(out[groups[base]])
    return scale, out


def _scale(objective: Objective, values: Array, is_log: bool) -> Scale:
    """The scale for these values (n,).

    The cut lies three robust standard deviations above the median, so that one diverged training does not
    flatten all the others.
    """
    sign = 1.0 if objective.direction == "min" else -1.0
    modelled = np.log(sign * values) if is_log else sign * values
    middle = float(np.median(modelled))
    robust_sd = _MAD_TO_SD * float(np.median(np.abs(modelled - middle)))
    cut = max(middle + _OUTLIER_SD * robust_sd, float(np.quantile(modelled, 0.75)))
    highest = min(float(modelled.max()), cut)
    reference = float(np.exp(highest)) if is_log else highest
    if objective.reference is not None:
        reference = min(reference, sign * objective.reference)
    return Scale(sign, is_log, cut, reference)


def _logarithm_is_better(objective: Objective, values: Array, inputs: Inputs) -> bool:
    """Whether a process clearly explains the logarithms of these positive values better than the values.

    Values that either of the two would cut do not count. Noise that is the same everywhere is large in the
    logarithm of what is near 0, where the front is: so the logarithm must be worth it.
    """
    plain, log = (_scale(objective, values, is_log) for is_log in (False, True))
    kept = np.flatnonzero((values <= plain.cut) & (np.log(values) <= log.cut))
    if len(kept) < FEWEST:
        return False
    values, inputs = values[kept], inputs.rows(kept)
    of_logs = GaussianProcess(inputs, np.log(values)).evidence - float(np.log(values).sum())
    return of_logs > GaussianProcess(inputs, values).evidence + _CLEARLY
