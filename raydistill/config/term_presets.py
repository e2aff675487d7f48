"""Presets of the mutual-information term: functions that return a whole term. `MI_TERMS` has them by name."""

from collections.abc import Callable, Mapping
from typing import Any

from raydistill.config import renamed
from raydistill.config.architectures import EnergyNetwork
from raydistill.config.paths import leaves, nearest, shown
from raydistill.config.terms import AnyTerm, MutualInformation, VariationalInformation
from raydistill.errors import ConfigError


def published_cyclegan() -> MutualInformation:
    """As in the first author's CycleGAN code: a small energy network, the teacher's pictures as positives."""
    return MutualInformation(weight=0.1, step_size=100.0, energy=EnergyNetwork(channels=8))


def published_pix2pix() -> MutualInformation:
    """As in the first author's pix2pix code: real pictures as positives, and its default step size."""
    return MutualInformation(weight=0.1, positive="target", step_size=1.0, energy=EnergyNetwork(channels=32))


def published_stylegan2() -> MutualInformation:
    """As in a third party's StyleGAN2 code: negatives are not clamped."""
    return MutualInformation(weight=0.05, step_size=50.0, clamp=False, energy=EnergyNetwork(channels=32))


def recommended() -> VariationalInformation:
    """The best term at equal time where terms were measured (docs/results/method.md).

    Its scores differ from those without a term by no more than the scores of different seeds do.
    """
    return VariationalInformation(weight=0.3)


def recommended_vem() -> MutualInformation:
    """The energy-based term with chains that start at the teacher's output for another picture.

    By measurement it does not push the student away from the teacher.
    """
    return MutualInformation(
        weight=0.1, start="other", num_steps=3, step_size=1.0, energy=EnergyNetwork(channels=8)
    )


NAMED_TERMS: dict[str, Callable[[], AnyTerm]] = {
    "recommended": recommended,
    "recommended_vem": recommended_vem,
    "published_cyclegan": published_cyclegan,
    "published_pix2pix": published_pix2pix,
    "published_stylegan2": published_stylegan2,
}
"""NAME in `--set student.terms.mi=NAME` -> the whole term; nothing of it is searched then. The published step
sizes are for 256x256; for other sizes scale them with the number of pixels."""
_TERMS = "student.terms."


def with_named_terms(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` where a name as a whole term, such as `student.terms.mi`, is replaced by all paths of that
    term.

    Paths that `values` gives beside the name come after it, so they change the term.

    Args:
        where: where the values come from, for the error message.

    Raises:
        ConfigError: there is no term of that name.
    """
    values = {renamed.in_full(path): value for path, value in values.items()}
    named: dict[str, Any] = {}
    whole = whole_terms(values, where)
    for section in whole:
        term = NAMED_TERMS[values[section]]()
        named |= {f"{section}.{path}": value for path, value in leaves(term).items()}
    return named | {path: value for path, value in values.items() if path not in whole}


def whole_terms(values: Mapping[str, Any], where: str) -> list[str]:
    """The paths among these that are whole terms: `student.terms.mi`.

    Raises:
        ConfigError: there is no term of the name that one of them has; the message says `where` it stands.
    """
    now = {renamed.in_full(path): value for path, value in values.items()}
    whole = [path for path in now if path.startswith(_TERMS) and "." not in path.removeprefix(_TERMS)]
    for section in whole:
        name = now[section]
        if not isinstance(name, str) or name not in NAMED_TERMS:
            close = nearest(shown(name), list(NAMED_TERMS))
            known = ", ".join(NAMED_TERMS)
            raise ConfigError(
                f"{where}: {section}: there is no term {shown(name)}. Known: {known}. Nearest: {close!r}."
            )
    return whole
