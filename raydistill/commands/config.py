"""`raydistill config`: prints every config path of a search space."""

from raydistill.config.command_options import ConfigOptions
from raydistill.config.paths import leaves, parse_assignments, with_values
from raydistill.config.space import load_space, preset_of, without_unmet_needs
from raydistill.config.space_checks import check_space
from raydistill.config.term_presets import with_named_term


def run(options: ConfigOptions) -> int:
    """Prints the paths with their values and what is searched; returns the exit code, 0.

    Raises:
        InputError: there is no such space or path, or a value is refused.
    """
    where, space = f"--space {options.space}", load_space(options.space)
    values = with_named_term(parse_assignments(list(options.set)), "--set")
    experiment = with_values(preset_of(space, where), values, where="--set")
    space = without_unmet_needs(space, experiment, where)
    check_space(space, experiment, where)
    for path, value in leaves(experiment).items():
        searched = f"    searched: {space.parameters[path]!r}" if path in space.parameters else ""
        print(f"{path} = {value!r}{searched}")
    return 0
