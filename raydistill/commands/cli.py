"""The command line. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."""

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from raydistill.errors import ConfigError, RaydistillError, RenamedWarning, StoreError, say_renamed

Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE|MODULE",
        help="Import a plug-in first: it RUNS that code. Repeatable; see docs/cookbook.md.",
    ),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def sweep(
    space: Annotated[
        str, typer.Option(help="Search space: a name in search_spaces/, or the path of a .py file.")
    ] = "default",
    data: Annotated[str | None, typer.Option(help="Folder of pictures, for spaces that read one.")] = None,
    store: Annotated[str, typer.Option(help="Results folder, or s3://bucket/prefix.")] = "runs",
    name: Annotated[
        str | None, typer.Option(help="Name of the sweep; default: the space and a number.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the newest sweep of the same settings, or with --name."),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Check everything, say what the sweep will take and stop.")
    ] = False,
    seconds_per_image: Annotated[
        float | None,
        typer.Option(help="Plan with this training time of an image; default: a few real steps are timed."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Students to search, beside the baselines.")] = 8,
    max_hours: Annotated[
        float | None, typer.Option(help="Start no trial after so many hours, over all starts of the sweep.")
    ] = None,
    max_gpu_hours: Annotated[
        float | None, typer.Option(help="Start no trial after the trials took so many GPU-hours.")
    ] = None,
    nimg: Annotated[int | None, typer.Option(help="Images a student is trained on.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of search and students.")] = 0,
    sampler: Annotated[
        str,
        typer.Option(
            help="Who proposes: known-cost, modelled-cost, tpe, nsga2, gp, sobol, random or stratified."
        ),
    ] = "known-cost",
    early_stopping: Annotated[
        bool,
        typer.Option(
            "--early-stopping",
            help="Stop students that are bad for their cost, or that can no longer reach the front.",
        ),
    ] = False,
    replicates: Annotated[
        int,
        typer.Option(
            help="After the search, so many trainings at most by further seeds, of students whose place on the front is uncertain."
        ),
    ] = 0,
    stability: Annotated[
        float | None,
        typer.Option(help="End --replicates when so much of the front is expected to stay, from 0 to 1."),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SWEEP_OR_TABLE",
            help="Begin with what an earlier sweep, or a table of configurations and scores, knows; repeatable.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Override a config path; repeatable."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:min|max[:WORST]", help="Replace the space's objectives; repeatable."),
    ] = None,
    max_macs: Annotated[float | None, typer.Option(help="No student above so many MACs.")] = None,
    min_macs: Annotated[float | None, typer.Option(help="No student below so many MACs.")] = None,
    max_params: Annotated[float | None, typer.Option(help="No student above so many parameters.")] = None,
    min_params: Annotated[float | None, typer.Option(help="No student below so many parameters.")] = None,
    max_memory_gb: Annotated[
        float | None,
        typer.Option(help="No student whose training is predicted to take more memory, GiB a worker."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="auto, inline (in a Tune actor) or train (a TorchTrainer a trial).")
    ] = "auto",
    workers_per_trial: Annotated[int, typer.Option(help="Workers that share a student's training.")] = 1,
    cpus_per_worker: Annotated[int, typer.Option(help="CPUs of each worker of a trial.")] = 1,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            help="GPUs of each worker of a trial, or a share of one; default: what its predicted memory needs."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Folder of a trained or imported generator that is the teacher; default: one is trained."
        ),
    ] = None,
    teacher_workers: Annotated[
        int | None, typer.Option(help="Workers that share the teacher's training; default: 2 if they fit.")
    ] = None,
    teacher_gpus: Annotated[
        float | None, typer.Option(help="GPUs of each of them; default: 1 where there are GPUs.")
    ] = None,
    teacher_cache_gb: Annotated[
        float, typer.Option(help="Store the teacher's outputs for all trials up to this size; 0: never.")
    ] = 2.0,
    max_concurrent: Annotated[int | None, typer.Option(help="Trials at a time; default: what fits.")] = None,
    wait_for_nodes: Annotated[
        float, typer.Option(help="Seconds to wait for another node when the ones left are too few.")
    ] = 120.0,
    mlflow: Annotated[
        str | None, typer.Option(help="Tracking URI; default: an sqlite file in the store.")
    ] = None,
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "raydistill",
) -> None:
    """Train evaluator and teacher, search students, print and store the frontier."""
    from raydistill.config.paths import validated
    from raydistill.config.sweep_options import SweepOptions
    from raydistill.sweep.run import run

    given = {
        "space": space, "data": data, "store": store, "name": name, "resume": resume, "plan": plan,
        "seconds_per_image": seconds_per_image, "trials": trials, "nimg": nimg,
        "max_hours": max_hours, "max_gpu_hours": max_gpu_hours,
        "seed": seed, "sampler": sampler, "early_stopping": early_stopping, "set": tuple(set_ or ()), "objectives": tuple(objective or ()),
        "warm_start": tuple(warm_start or ()), "replicates": replicates, "stability": stability,
        "max_macs": max_macs, "min_macs": min_macs, "max_params": max_params, "min_params": min_params, "max_memory_gb": max_memory_gb,
        "executor": executor, "workers_per_trial": workers_per_trial,
        "cpus_per_worker": cpus_per_worker, "gpus_per_worker": gpus_per_worker, "teacher_workers": teacher_workers,
        "teacher_gpus": teacher_gpus, "teacher_cache_gb": teacher_cache_gb, "max_concurrent": max_concurrent,
        "teacher": teacher,
        "wait_for_nodes": wait_for_nodes, "mlflow": mlflow, "experiment": experiment,
    }  # fmt: skip
    try:
        code = run(validated(SweepOptions, given, where="command line"))
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command("plan")
@functools.wraps(sweep)
def plan_(**options: Any) -> None:
    """What a sweep with the same options will take: trials, costs, time, memory, places, disk. Nothing is trained."""
    sweep(**options | {"plan": True})


evaluator_app = typer.Typer(no_args_is_help=True, help="Evaluators: networks that score and give no loss.")
app.add_typer(evaluator_app, name="evaluator")


@evaluator_app.command("train")
def train_evaluator(
    space: Annotated[str, typer.Option(help="Search space whose evaluator it is.")] = "default",
    data: Annotated[str | None, typer.Option(help="Folder of pictures, for spaces that read one.")] = None,
    store: Annotated[str, typer.Option(help="Results folder: sweeps in it find this evaluator.")] = "runs",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="A config path; repeatable.")
    ] = None,
) -> None:
    """Train the evaluator of a space on data of your own, and say its ceiling: its score of real pictures."""
    from raydistill.commands.evaluator import EvaluatorOptions, run
    from raydistill.config.paths import validated

    options = {"space": space, "data": data, "store": store, "set": tuple(set_ or ())}
    raise typer.Exit(run(validated(EvaluatorOptions, options, where="command line")))


data_app = typer.Typer(
    no_args_is_help=True, help="Data sets: what they are, before anything is trained on them."
)
app.add_typer(data_app, name="data")


@data_app.command("inspect")
def inspect_data(
    path: Annotated[Path, typer.Argument(help="Folder, zip or npz file.")],
    layout: Annotated[str, typer.Option(help="Layout, where the one that is found is wrong.")] = "auto",
    num: Annotated[
        int | None, typer.Option(help="Decode at most so many pictures, evenly spread; default: all.")
    ] = None,
    sheet: Annotated[Path, typer.Option(help="Where the contact sheet is written.")] = Path(
        "contact-sheet.png"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Say what a data set is: layout, counts, sizes, classes, every problem; write a contact sheet. Exit code 1 with problems."""
    from raydistill.config.paths import validated
    from raydistill.data.inspect import InspectOptions, run

    options = {"path": path, "layout": layout, "num": num, "sheet": sheet, "as_json": as_json}
    raise typer.Exit(run(validated(InspectOptions, options, where="command line")))


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="Name of a public set; a wrong one lists them.")],
    to: Annotated[Path, typer.Option(help="Folder the set's own folder is made in.")] = Path("data"),
    mirror: Annotated[
        str | None, typer.Option(help="Address of a folder with the same files, instead of the official one.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Demand this checksum, for a set whose publisher names none.")
    ] = None,
) -> None:
    """Bring a public data set from its official address: checked, resumed, unpacked. Nothing else downloads anything."""
    from raydistill.config.paths import validated
    from raydistill.data.fetch import FetchOptions, run

    options = {"name": name, "to": to, "mirror": mirror, "sha256": sha256}
    raise typer.Exit(run(validated(FetchOptions, options, where="command line")))


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(help="A .py file that defines BATCH = Batch(...).")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the batch of that name: finished sweeps are skipped.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Check everything, print the plan and stop.")] = False,
) -> None:
    """Run several sweeps, spaces x methods x seeds, as one job. Exit code 1 where not all of them finished."""
    from raydistill.commands.batch import run

    try:
        code = run(file, resume=resume, plan_only=plan)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command()
def doctor(
    store: Annotated[
        str, typer.Option(help="Results folder or s3:// URL, as sweeps will be given it.")
    ] = "runs",
    mlflow: Annotated[str | None, typer.Option(help="Tracking URI, as sweeps will be given it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at this machine, or at every node of the cluster that RAY_ADDRESS names, and say what to do. Exit code 1 where a check fails."""
    from raydistill.commands.doctor import run
    from raydistill.records.remote import folder_of

    raise typer.Exit(run(folder_of(store), mlflow, as_json=as_json))


@app.command()
def evaluate(
    given: Annotated[
        list[str],
        typer.Argument(help="Networks, trials, checkpoints, ONNX files; folders, zips or npz of pictures."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set: a folder, prepared data, or `shapes`; default: what the trials were trained on."
        ),
    ] = None,
    real: Annotated[
        str | None,
        typer.Option(help="Instead of --data: a folder, zip or npz of pictures, taken as they are."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test, of --data.")] = "val",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="A config path of the data; repeatable."),
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE",
            help="inception, vgg16, squeezenet or torchscript, and its weights; repeatable.",
        ),
    ] = None,
    segmenter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE",
            help="drn105 or torchscript: mIoU at the size of the label files; repeatable.",
        ),
    ] = None,
    evaluator: Annotated[
        str | None, typer.Option(help="Folder of an evaluator; default: the one of the trials.")
    ] = None,
    judge: Annotated[str | None, typer.Option(hidden=True)] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Picture i of a folder belongs to real picture i.")
    ] = False,
    num: Annotated[
        int | None, typer.Option(help="Only so many pictures of each set, drawn from a fixed seed.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of the 95 % interval; 0: none.")] = 200,
    against: Annotated[
        str | None, typer.Option(help="What --json printed before: shown beside it where it can be compared.")
    ] = None,
    store: Annotated[str, typer.Option(help="Results folder, where decoded data are kept.")] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score generators, ONNX files and folders of pictures against real pictures. Nothing is downloaded."""
    from raydistill.commands.evaluate import EvaluateOptions, run
    from raydistill.config.paths import validated

    if judge is not None:
        say_renamed("--judge", "--evaluator")
        evaluator = evaluator or judge
    options = {
        "given": tuple(given), "data": data, "real": real, "split": split, "set": tuple(set_ or ()), "extractors": tuple(extractor or ()),
        "segmenters": tuple(segmenter or ()),
        "evaluator": evaluator, "paired": paired, "num": num, "resamples": resamples, "against": against, "store": store, "as_json": as_json,
    }  # fmt: skip
    raise typer.Exit(run(validated(EvaluateOptions, options, where="command line")))


_LARGEST = 8192


def _size(text: str | None) -> tuple[int, int] | None:
    """`256x192` -> (256, 192). Raises ConfigError for anything else."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (
        height.isdecimal()
        and width.isdecimal()
        and 1 <= int(height) <= _LARGEST
        and 1 <= int(width) <= _LARGEST
    ):
        raise ConfigError(
            f"--size {text}: give it as HEIGHTxWIDTH, each 1 to {_LARGEST}, for example --size 256x256"
        )
    return int(height), int(width)


@app.command()
def export(
    given: Annotated[
        str,
        typer.Argument(help="Folder of a trial, checkpoint or network, or an exported .safetensors file."),
    ],
    format_: Annotated[str, typer.Option("--format", help="onnx, torchscript or safetensors.")] = "onnx",
    out: Annotated[
        str | None, typer.Option(help="File to write; default: named after the trial, in this folder.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of pictures, where the network's data do not tell."),
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(help="Folder of pictures to check on; default: its data, else seeded noise.")
    ] = None,
    licence: Annotated[str, typer.Option(help="For the model card.")] = "",
) -> None:
    """Write a generator for use elsewhere, checked against PyTorch, and its model card. Exit code 1, and no file, where outputs differ."""
    from raydistill.commands.export import ExportOptions, run
    from raydistill.config.paths import validated

    options = {
        "given": given,
        "format": format_,
        "out": out,
        "size": _size(size),
        "pictures": pictures,
        "licence": licence,
    }
    raise typer.Exit(run(validated(ExportOptions, options, where="command line")))


teacher = typer.Typer(no_args_is_help=True, help="Teachers that were trained elsewhere.")
app.add_typer(teacher, name="teacher")


@teacher.command("import")
def import_(
    file: Annotated[
        str,
        typer.Argument(help="Checkpoint: .pth, .pt, .safetensors, or NVlabs' .pkl. Nothing in it is run."),
    ],
    out: Annotated[
        str | None, typer.Option(help="Folder to write; default: named after the file, in this folder.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Of pictures, for counts; default: 256x256.")
    ] = None,
) -> None:
    """Read a generator of a published key layout: pix2pix, CycleGAN, GAN Compression, OMGD, SAGAN or StyleGAN2."""
    from raydistill.commands.import_teacher import ImportOptions, run
    from raydistill.config.paths import validated

    raise typer.Exit(
        run(validated(ImportOptions, {"file": file, "out": out, "size": _size(size)}, where="command line"))
    )


@app.command()
def latency(
    given: Annotated[
        list[str],
        typer.Argument(help="Folders of trials, checkpoints or networks, or exported .safetensors files."),
    ],
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Pictures at once; repeatable; default: 1.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    repeats: Annotated[int, typer.Option(help="Forwards that are timed, after a warm-up.")] = 30,
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of pictures, where the network's data do not tell."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Measure milliseconds (p50, p95) and peak memory of generators, one after the other, each in a process of its own."""
    from raydistill.commands.latency import LatencyOptions, run
    from raydistill.config.paths import validated

    options = {
        "given": tuple(given), "batch_sizes": tuple(batch_size or (1,)), "threads": threads, "device": device, "repeats": repeats,
        "size": _size(size), "as_json": as_json,
    }  # fmt: skip
    raise typer.Exit(run(validated(LatencyOptions, options, where="command line")))


@app.command()
def retrain(
    sweep: Annotated[
        str, typer.Argument(help="Folder of a sweep: STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME.")
    ],
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    nimg: Annotated[int, typer.Option(help="Images to train on, more than it had.")],
    seed: Annotated[int | None, typer.Option(help="Another seed; default: the trial's own.")] = None,
) -> None:
    """Train a student of a sweep again, at full length, in this process. Interrupted, the same command goes on."""
    from raydistill.commands.retrain import RetrainOptions, run
    from raydistill.config.paths import validated

    options = {"sweep": sweep, "trial": trial, "nimg": nimg, "seed": seed}
    raise typer.Exit(run(validated(RetrainOptions, options, where="command line")))


@app.command()
def config(
    space: Annotated[str, typer.Option(help="Search space.")] = "default",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Override a config path; repeatable."),
    ] = None,
) -> None:
    """Print every config path of a space with its value, and what is searched."""
    from raydistill.config.paths import leaves, parse_assignments, with_values
    from raydistill.config.presets import expanded
    from raydistill.config.space import check, fitted, load_space, preset_of

    where, chosen = f"--space {space}", load_space(space)
    experiment = with_values(
        preset_of(chosen, where), expanded(parse_assignments(set_ or []), "--set"), where="--set"
    )
    chosen = fitted(chosen, experiment, where)
    check(chosen, experiment, where)
    for path, value in leaves(experiment).items():
        searched = f"    searched: {chosen.parameters[path]!r}" if path in chosen.parameters else ""
        typer.echo(f"{path} = {value!r}{searched}")


@app.command()
def frontier(
    sweep_dir: Annotated[Path, typer.Argument(help="Folder of a sweep: STORE/sweeps/NAME.")],
) -> None:
    """Print a sweep's result table again."""
    from raydistill.records.tables import read_table
    from raydistill.terminal import Terminal

    if not (sweep_dir / "trials.parquet").exists():
        raise StoreError(
            f"{sweep_dir}: no finished sweep here (no trials.parquet); an interrupted one goes on with --resume"
        )
    table = read_table(sweep_dir / "trials.parquet")
    Terminal().table(f"frontier of {sweep_dir.name}", table[table["front.member"]].sort_values("cost.macs"))
    Terminal().table("all other trials", table[~table["front.member"]].sort_values("cost.macs"))


def _with_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option --plugin, whose plug-ins are imported before it runs."""

    @functools.wraps(command)
    def wrapped(*args: Any, plugin: list[str] | None = None, **given: Any) -> None:
        if plugin:
            from raydistill import plugins

            plugins.load(plugin)
        command(*args, **given)

    signature = inspect.signature(command)
    option = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Plugins)
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    wrapped.__annotations__ = command.__annotations__ | {"plugin": Plugins}
    return wrapped


for _group in (app, evaluator_app, data_app, teacher):
    for _command in _group.registered_commands:
        assert _command.callback is not None
        _command.callback = _with_plugins(_command.callback)


def main() -> None:
    """Runs the command line; errors of ours end in one message and their exit code."""
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", category=RenamedWarning)
    warnings.formatwarning = lambda message, *place, **more: f"raydistill: {message}\n"
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    try:
        app()
    except RaydistillError as error:
        typer.echo(f"raydistill: {error}", err=True)
        sys.exit(error.exit_code)
