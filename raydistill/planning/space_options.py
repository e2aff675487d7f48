"""What options of a sweep change about its search space."""

import math
from typing import Any

from raydistill.config import space, term_presets
from raydistill.config.paths import parse_assignments, validated
from raydistill.config.space import Objective, SearchSpace, Window
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, say_notice


def without_whole_terms(search_space: SearchSpace, options: SweepOptions) -> SearchSpace:
    """The space without what it searches of terms that --set gives whole, which is said."""
    assignments = parse_assignments(list(options.set))
    whole = term_presets.whole_terms(assignments, "--set")
    left = space.without(search_space, whole)
    below = tuple(f"{section}." for section in whole)
    if below and (both := sorted(path for path in space.searched_paths(left) if path.startswith(below))):
        raise ConfigError(f"--set {', '.join(whole)}: settings of the space give {both[0]}; leave it out")
    if gone := [path for path in search_space.parameters if path not in left.parameters]:
        given = ", ".join(f"{path}={assignments[path]}" for path in assignments if path in whole)
        say_notice(
            f"--set {given or ', '.join(whole)} is whole, so the space does not search {', '.join(gone)}"
        )
    return left


def with_all_settled(options: SweepOptions, search_space: SearchSpace) -> SweepOptions:
    """The options with as many trials as there are students, where `Settings` say all of them."""
    if not space.is_settled(search_space):
        return options
    numbers = [len(each.options) for each in space.settings_in(search_space).values()]
    return options.model_copy(update={"trials": math.prod(numbers)})


def with_options(search_space: SearchSpace, options: SweepOptions) -> SearchSpace:
    """The search space with the objectives and the cost windows of the command line."""
    updates: dict[str, Any] = {}
    if options.objectives:
        updates["objectives"] = tuple(_parse_objective(text) for text in options.objectives)
    bounds = [
        ("cost/macs", options.min_macs, options.max_macs),
        ("cost/params", options.min_params, options.max_params),
        ("cost/memory_gb", None, options.max_memory_gb),
    ]
    windows = [window for bound in bounds for window in _windows(*bound)]
    if windows:
        updates["constraints"] = (*search_space.constraints, *windows)
    return search_space.model_copy(update=updates)


def _windows(name: str, low: float | None, high: float | None) -> list[Window]:
    """The windows between two bounds: one, or two where MACs are counted differently in each."""
    counted = [getattr(bound, "convention", "true") if bound else None for bound in (low, high)]
    found = []
    for convention in dict.fromkeys(each for each in counted if each is not None):
        ends = [bound if each == convention else None for bound, each in zip((low, high), counted)]
        least, most = float(ends[0] or 0.0), 1e30 if ends[1] is None else float(ends[1])
        found.append(Window(cost=name, low=least, high=most, convention=convention))
    return found


def _parse_objective(text: str) -> Objective:
    """The objective that a text like `val/kd_evaluator:min:1.0` or `cost/macs:min` names.

    Raises ConfigError where the text has another form.
    """
    name, _, rest = text.partition(":")
    direction, _, reference = rest.partition(":")
    try:
        worst = float(reference) if reference else None
    except ValueError:
        worst = None
    if direction not in ("min", "max") or (reference and worst is None):
        raise ConfigError(
            f"--objective {text}: "
            "give it as name:min or name:max, and :worst for qualities, for example val/kd_evaluator:min:1.0"
        )
    values = {"name": name, "direction": direction, "reference": worst}
    return validated(Objective, values, where=f"--objective {text}")
