"""`raydistill evaluator train`: trains the evaluator of a search space by itself, in one process."""

from pathlib import Path

from raydistill.config import space, term_presets
from raydistill.config.command_options import EvaluatorOptions
from raydistill.config.paths import parse_assignments, with_values
from raydistill.data import prepare, read_info
from raydistill.models import networks
from raydistill.planning.checks import with_data
from raydistill.records import store
from raydistill.records.trials import Evaluation
from raydistill.terminal import Terminal
from raydistill.training import recipes
from raydistill.trials.stages import train_evaluator


def run(options: EvaluatorOptions) -> int:
    """Trains the evaluator where sweeps of this store look for it, or finds it there, and says its ceiling.

    Returns:
        the exit code, 0.

    Raises:
        InputError: something is wrong with the options or the data; raised before any cost.
        RunError: the training diverged.
    """
    where, terminal = f"--space {options.space}", Terminal()
    experiment = with_data(space.preset_of(space.load_space(options.space), where), options.data, where)
    values = term_presets.with_named_terms(parse_assignments(list(options.set)), "--set")
    experiment = with_values(experiment, values, where="--set")
    cache = store.open_store(options.store) / "cache"
    whole = recipes.data_needs(experiment.teacher)["whole_pictures"]
    data = prepare(experiment.data, cache / "data", whole_pictures=whole)
    info = read_info(data)

    def report(evaluation: Evaluation) -> None:
        scores = [(name, value) for name, value in evaluation.numbers.items() if name.startswith("val/")]
        shown = [("nimg", evaluation.nimg), *scores]
        terminal.say(", ".join(f"{name} {value:,.4g}" for name, value in shown))

    evaluator, result = train_evaluator(experiment, data, cache, report)
    scores = [(name, value) for name, value in result.metrics.items() if name.startswith("val/")]
    ceiling = ", ".join(f"{name} {value:.4f}" for name, value in scores)
    what = {
        "pixel_class": f"{info.num_classes} classes",
        "input_picture": "the input picture, where lower is better",
        "picture_class": f"{len(info.picture_classes)} classes of pictures",
        "rotation": "quarter turns",
    }[networks.evaluator_task(info)]
    terminal.say(
        f"evaluator {evaluator.digest} of {what}: {ceiling} on the "
        f"{info.counts['val']:,} real pictures of val, the ceiling of what it scores"
    )
    terminal.say(
        f"use it: raydistill evaluate ... --data {data.path} --evaluator {Path(evaluator.path).parent}"
    )
    return 0
