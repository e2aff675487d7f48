"""`raydistill config`: prints every config path of a search space."""

from raydistill.config import printed
from raydistill.config.command_options import ConfigOptions
from raydistill.config.paths import parse_assignments, with_values
from raydistill.config.space import load_space, preset_of, without, without_unmet_needs
from raydistill.config.space_checks import check_space
from raydistill.config.term_presets import whole_terms, with_named_terms


def run(options: ConfigOptions) -> int:
    """Prints the paths with their values and what is searched; returns the exit code, 0.

    Raises:
        InputError: there is no such space or path, or a value is refused.
    """
    where, space = f"--space {options.space}", load_space(options.space)
    assignments = parse_assignments(list(options.set))
    values, space = with_named_terms(assignments, "--set"), without(space, whole_terms(assignments, "--set"))
    experiment = preset_of(space, where)
    if options.config is not None:
        experiment = printed.with_file(experiment, options.config, fixed={})
    experiment = with_values(experiment, values, where="--set")
    space = without_unmet_needs(space, experiment, where)
    check_space(space, experiment, where)
    print("\n".join(printed.lines(experiment, space)))
    return 0
