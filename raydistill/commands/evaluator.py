"""`raydistill evaluator train`: a space's evaluator by itself, on data of one's own, in one process."""

from pathlib import Path

from raydistill.config import space, term_presets
from raydistill.config.base import Frozen
from raydistill.config.paths import parse_assignments, with_values
from raydistill.data import prepare, read_info
from raydistill.models import networks
from raydistill.planning.checks import with_data
from raydistill.records import store
from raydistill.terminal import Terminal
from raydistill.trials.stages import train_evaluator


class EvaluatorOptions(Frozen):
    """What the command line gives. See `raydistill evaluator train --help`."""

    space: str = "default"
    data: str | None = None
    store: str = "runs"
    set: tuple[str, ...] = ()


def run(options: EvaluatorOptions) -> int:
    """Trains the evaluator where sweeps in this store look for it, or finds it there; says its ceiling. Returns 0.

    Raises:
        InputError: before any cost. RunError: the training diverged.
    """
    where, terminal = f"--space {options.space}", Terminal()
    experiment = with_data(space.preset_of(space.load_space(options.space), where), options.data, where)
    experiment = with_values(
        experiment, term_presets.with_named_term(parse_assignments(list(options.set)), "--set"), where="--set"
    )
    cache = store.open_store(options.store) / "cache"
    data = prepare(experiment.data, cache / "data")
    info = read_info(data)

    def report(numbers: dict[str, float]) -> None:
        terminal.say(
            ", ".join(
                f"{name} {value:,.4g}" for name, value in numbers.items() if name.startswith(("nimg", "val/"))
            )
        )

    evaluator, result = train_evaluator(experiment, data, cache, report)
    ceiling = ", ".join(
        f"{name} {value:.4f}" for name, value in result["metrics"].items() if name.startswith("val/")
    )
    what = {
        "pixel_class": f"{info.num_classes} classes",
        "input_picture": "the input picture, where lower is better",
        "picture_class": f"{len(info.picture_classes)} classes of pictures",
        "rotation": "quarter turns",
    }[networks.evaluator_task(info)]
    terminal.say(
        f"evaluator {evaluator.digest} of {what}: {ceiling} on real pictures, the ceiling of what it scores"
    )
    terminal.say(
        f"use it: raydistill evaluate ... --data {data.path} --evaluator {Path(evaluator.path).parent}"
    )
    return 0
