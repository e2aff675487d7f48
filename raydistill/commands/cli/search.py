"""Commands about sweeps: sweep, plan, batch, retrain, config, frontier, track. Each returns its exit code."""

import inspect
from pathlib import Path
from typing import Annotated, Any

from raydistill.commands.cli.options import argument, flag, option
from raydistill.errors import StoreError

SEARCHED, BUDGET, STUDENT = "What is searched", "Budget", "Student"
TEACHER, PLACE, RESULTS = "Teacher and evaluator", "Where it runs", "Results and tracking"


# The function is long because it declares every option, and they are declared here alone.
def sweep(
    space: Annotated[
        str,
        option(
            "NAME|FILE",
            "Search space: the name of one in ./search_spaces/ or among the installed ones, or a .py file.",
            panel=SEARCHED,
        ),
    ] = "default",
    data: Annotated[
        str | None,
        option("FOLDER", "Pictures to train on, for spaces that do not draw their own.", panel=SEARCHED),
    ] = None,
    set_: Annotated[
        list[str] | None,
        option(
            "PATH=VALUE",
            "Set a config path that is not searched. Repeatable; `raydistill config` prints every path.",
            name="--set",
            panel=SEARCHED,
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        option(
            "NAME:min|max[:WORST]",
            "Replace the space's objectives. Repeatable, once for each; WORST is the coordinate of the "
            "hypervolume's reference point.",
            panel=SEARCHED,
        ),
    ] = None,
    sampler: Annotated[
        str,
        option(
            "NAME",
            "What proposes configurations: known-cost, modelled-cost, tpe, nsga2, gp, sobol, random or "
            "stratified.",
            panel=SEARCHED,
        ),
    ] = "known-cost",
    seed: Annotated[int, option("N", "Seed of the search and of every student.", panel=SEARCHED)] = 0,
    warm_start: Annotated[
        list[str] | None,
        option(
            "SWEEP|TABLE",
            "Let the search begin with the results of an earlier sweep, or with a table of configurations "
            "and "
            "scores. Repeatable.",
            panel=SEARCHED,
        ),
    ] = None,
    trials: Annotated[
        int, option("N", "Students that the search trains, besides the baselines.", panel=BUDGET)
    ] = 8,
    max_hours: Annotated[
        float | None,
        option(
            "HOURS",
            "Start no trial after so many hours of wall-clock time, all starts of the sweep together. "
            "Default: no limit.",
            panel=BUDGET,
        ),
    ] = None,
    max_gpu_hours: Annotated[
        float | None,
        option(
            "HOURS",
            "Start no trial after the trials have taken so many GPU-hours. Default: no limit.",
            panel=BUDGET,
        ),
    ] = None,
    early_stopping: Annotated[
        bool,
        flag(
            "--early-stopping",
            "Stop students that are bad for their cost, or that can no longer reach the front.",
            panel=BUDGET,
        ),
    ] = False,
    replicates: Annotated[
        int,
        option(
            "N",
            "After the search, train students whose place on the front is uncertain with further seeds: "
            "at most N trainings.",
            panel=BUDGET,
        ),
    ] = 0,
    stability: Annotated[
        float | None,
        option(
            "SHARE",
            "End the replicates early, when this share of the front, above 0 and up to 1, is expected to "
            "stay "
            "the same. Default: when every place is certain.",
            panel=BUDGET,
        ),
    ] = None,
    plan: Annotated[
        bool,
        flag(
            "--plan",
            "Check everything, say what the sweep will take, and stop: the command `plan`.",
            panel=BUDGET,
        ),
    ] = False,
    seconds_per_image: Annotated[
        float | None,
        option(
            "SECONDS",
            "Training time of one image that the plan counts with, for every network. Default: a few steps "
            "are "
            "timed here.",
            panel=BUDGET,
        ),
    ] = None,
    nimg: Annotated[
        int | None,
        option(
            "IMAGES", "Images that a student is trained on. Default: what the config says.", panel=STUDENT
        ),
    ] = None,
    max_macs: Annotated[
        float | None,
        option("MACS", "Train no student of more multiply-accumulates an image.", panel=STUDENT),
    ] = None,
    min_macs: Annotated[
        float | None,
        option("MACS", "Train no student of fewer multiply-accumulates an image.", panel=STUDENT),
    ] = None,
    max_params: Annotated[
        float | None, option("N", "Train no student of more parameters.", panel=STUDENT)
    ] = None,
    min_params: Annotated[
        float | None, option("N", "Train no student of fewer parameters.", panel=STUDENT)
    ] = None,
    max_memory_gb: Annotated[
        float | None,
        option(
            "GIB",
            "Train no student whose training is predicted to take more memory on one worker.",
            panel=STUDENT,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        option(
            "FOLDER",
            "A trained or imported generator that is used as the teacher. Default: a teacher is trained.",
            panel=TEACHER,
        ),
    ] = None,
    teacher_workers: Annotated[
        int | None,
        option(
            "N",
            "Workers that share the training of the evaluator and of the teacher. Default: 2, or 1 where 2 "
            "do "
            "not fit.",
            panel=TEACHER,
        ),
    ] = None,
    teacher_gpus: Annotated[
        float | None,
        option(
            "GPUS",
            "GPUs of each of these workers, or a share of one. Default: 1, or 0 where there is no GPU.",
            panel=TEACHER,
        ),
    ] = None,
    teacher_cache_gb: Annotated[
        float,
        option(
            "GIB",
            "Store the teacher's outputs for all trials where they need no more than this; 0: never. Where "
            "they "
            "are not stored, the teacher runs in every trial.",
            panel=TEACHER,
        ),
    ] = 2.0,
    executor: Annotated[
        str,
        option(
            "KIND",
            "How a trial runs: inline (in a Ray Tune actor), train (by a TorchTrainer of its own), or auto "
            "(inline "
            "with one worker a trial, else train).",
            panel=PLACE,
        ),
    ] = "auto",
    workers_per_trial: Annotated[
        int, option("N", "Workers that share a student's training.", panel=PLACE)
    ] = 1,
    cpus_per_worker: Annotated[int, option("CPUS", "CPUs of each worker of a trial.", panel=PLACE)] = 1,
    gpus_per_worker: Annotated[
        float | None,
        option(
            "GPUS",
            "GPUs of each worker of a trial, or a share of one. Default: what its predicted memory needs; "
            "0 where "
            "there is no GPU.",
            panel=PLACE,
        ),
    ] = None,
    max_concurrent: Annotated[
        int | None, option("N", "Trials at a time. Default: as many as fit.", panel=PLACE)
    ] = None,
    wait_for_nodes: Annotated[
        float,
        option(
            "SECONDS",
            "How long to wait for another node when those that are left have no room for a trial.",
            panel=PLACE,
        ),
    ] = 120.0,
    store: Annotated[
        str,
        option(
            "FOLDER|URL",
            "Results folder, or s3://bucket/prefix of an S3-compatible object store.",
            panel=RESULTS,
        ),
    ] = "runs",
    name: Annotated[
        str | None,
        option("NAME", "Name of the sweep. Default: the space and a number.", panel=RESULTS),
    ] = None,
    resume: Annotated[
        bool,
        flag(
            "--resume",
            "Go on with the newest sweep of the same settings, or with the one that --name names.",
            panel=RESULTS,
        ),
    ] = False,
    mlflow: Annotated[
        str | None,
        option("URI", "MLflow tracking server or store. Default: an sqlite file in --store.", panel=RESULTS),
    ] = None,
    experiment: Annotated[str, option("NAME", "MLflow experiment.", panel=RESULTS)] = "raydistill",
) -> int:
    """Train evaluator and teacher, search students, print and store their Pareto front.

    Every option has a default. Without any, the sweep draws its own pictures, and needs no GPU.
    """
    given = dict(locals())  # every name up to here is an option
    from raydistill.config.paths import validated
    from raydistill.config.sweep_options import SweepOptions
    from raydistill.sweep.run import run

    given["set"] = tuple(given.pop("set_") or ())
    given["objectives"] = tuple(given.pop("objective") or ())
    given["warm_start"] = tuple(warm_start or ())
    try:
        return run(validated(SweepOptions, given, where="command line"))
    except KeyboardInterrupt:
        return 130


def plan(**options: Any) -> int:
    """Say what a sweep of the same options will take: trials, costs, time, memory, trials at a time, disk.

    Everything is checked as for the sweep, data are prepared in the store, a few steps are timed. Nothing is
    trained.
    """
    return sweep(**options | {"plan": True})


def _signature_of_plan() -> inspect.Signature:
    """That of `sweep`; the option --plan is understood, but not listed."""
    signature = inspect.signature(sweep)
    hidden = Annotated[bool, flag("--plan", "", hidden=True)]
    parameters = [
        parameter.replace(annotation=hidden) if name == "plan" else parameter
        for name, parameter in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters)


plan.__signature__ = _signature_of_plan()  # type: ignore[attr-defined]


def batch(
    file: Annotated[Path, argument("FILE", "A .py file that defines BATCH = Batch(...).")],
    resume: Annotated[
        bool, flag("--resume", "Go on with the batch of that name; finished sweeps are skipped.")
    ] = False,
    plan: Annotated[bool, flag("--plan", "Check every sweep, print the plan and stop.")] = False,
) -> int:
    """Run several sweeps as one job: spaces x methods x seeds, in an order, within a budget.

    Exit code 1 where not all of them finished; the same command with --resume goes on.
    """
    from raydistill.commands.batch import run

    try:
        return run(file, resume=resume, plan_only=plan)
    except KeyboardInterrupt:
        return 130


def retrain(
    sweep: Annotated[
        str, argument("SWEEP", "Folder of a sweep, STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME.")
    ],
    trial: Annotated[int, option("N", "Number of the trial.")],
    nimg: Annotated[int, option("IMAGES", "Images to train on: more than the trial had.")],
    seed: Annotated[int | None, option("N", "Another seed. Default: the trial's own.")] = None,
) -> int:
    """Train a student of a sweep again, on more images, in this process.

    The result is in SWEEP/retrained/; the sweep stays as it is. After an interrupt the same command goes on.
    """
    from raydistill.commands.retrain import RetrainOptions, run
    from raydistill.config.paths import validated

    options = {"sweep": sweep, "trial": trial, "nimg": nimg, "seed": seed}
    return run(validated(RetrainOptions, options, where="command line"))


def config(
    space: Annotated[
        str, option("NAME|FILE", "Search space: a name, or the path of a .py file.")
    ] = "default",
    set_: Annotated[
        list[str] | None, option("PATH=VALUE", "Set a config path. Repeatable.", name="--set")
    ] = None,
) -> int:
    """Print every config path of a search space with its value, and what is searched."""
    from raydistill.config.paths import leaves, parse_assignments, with_values
    from raydistill.config.space import load_space, preset_of, without_unmet_needs
    from raydistill.config.space_checks import check_space
    from raydistill.config.term_presets import with_named_term

    where, chosen = f"--space {space}", load_space(space)
    values = with_named_term(parse_assignments(set_ or []), "--set")
    experiment = with_values(preset_of(chosen, where), values, where="--set")
    chosen = without_unmet_needs(chosen, experiment, where)
    check_space(chosen, experiment, where)
    for path, value in leaves(experiment).items():
        searched = f"    searched: {chosen.parameters[path]!r}" if path in chosen.parameters else ""
        print(f"{path} = {value!r}{searched}")
    return 0


def frontier(
    sweep_dir: Annotated[Path, argument("SWEEP", "Folder of a finished sweep: STORE/sweeps/NAME.")],
) -> int:
    """Print a sweep's trials again: the members of its Pareto front, then the others, the cheapest first.

    On a terminal, a table that is too wide is split into several, one below the other.
    """
    from raydistill.records.tables import read_table
    from raydistill.terminal import Terminal

    if not (sweep_dir / "trials.parquet").exists():
        raise StoreError(
            f"{sweep_dir}: no finished sweep here (no trials.parquet); an interrupted one goes on with "
            "--resume"
        )
    table, terminal = read_table(sweep_dir / "trials.parquet"), Terminal()
    members, others = table[table["front.member"]], table[~table["front.member"]]
    terminal.table(f"Pareto front of {sweep_dir.name}", members.sort_values("cost.macs"))
    terminal.table("all other trials", others.sort_values("cost.macs"))
    return 0


def track(
    sweep: Annotated[
        str,
        argument("SWEEP", "Folder of a sweep, STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME."),
    ],
    mlflow: Annotated[
        str | None,
        option("URI", "Tracking server or store. Default: where the sweep was tracked, without a password."),
    ] = None,
    experiment: Annotated[
        str | None, option("NAME", "MLflow experiment. Default: that of the sweep.")
    ] = None,
) -> int:
    """Send to MLflow what it lacks of a sweep, from the files in the sweep's folder.

    Nothing is sent twice. A server's user name and password are taken from MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD, too.
    """
    from raydistill.commands.track import run

    return run(sweep, mlflow, experiment)
