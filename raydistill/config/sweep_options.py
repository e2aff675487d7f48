"""The options of a sweep: what the command line, the options of a batch file and the planner share."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import UserPath
from raydistill.config.bounds import (
    Amount,
    AmountAboveZero,
    Cost,
    CostAboveZero,
    MacsLimit,
    NumImages,
    NumTrials,
    NumWorkers,
    Seed,
)
from raydistill.config.options import Cli, Options
from raydistill.config.place_options import (
    CpusPerWorker,
    Executor,
    GpusPerWorker,
    MaxConcurrent,
    WaitForNodes,
    WorkersPerTrial,
)
from raydistill.config.scorer_options import (
    Extractors,
    LpipsFile,
    NumScored,
    RealPictures,
    RealStatistics,
    ScoreEvery,
    Segmenters,
)

LONGEST_NAME, LONGEST_EXPERIMENT = 200, 256
"""Characters of the name of a sweep, from which names of files are made, and of MLflow's experiment."""
SEARCHED, BUDGET, STUDENT = "What is searched", "Budget", "Student"
TEACHER, RESULTS = "Teacher and evaluator", "Results and tracking"


class SweepOptions(Options):
    """What a sweep is given: every option of `raydistill sweep`, by its name; each has a default.

    A value outside the range of its option raises pydantic's ValidationError, which is a ValueError.
    """

    space: Annotated[
        UserPath,
        Field(
            description="Search space: the name of one in ./search_spaces/ or among the installed ones, or "
            "a .py file."
        ),
        Cli("NAME|FILE", SEARCHED),
    ] = "default"
    data: Annotated[
        UserPath | None,
        Field(description="Pictures to train on, for spaces that do not draw their own."),
        Cli("FOLDER", SEARCHED),
    ] = None
    config: Annotated[
        UserPath | None,
        Field(
            description="Values of config paths, in a file as `raydistill config` prints it; the other "
            "options overrule them."
        ),
        Cli("FILE", SEARCHED),
    ] = None
    set: Annotated[
        tuple[str, ...],
        Field(
            description="Set a config path that is not searched. Repeatable; `raydistill config` prints "
            "every path."
        ),
        Cli("PATH=VALUE", SEARCHED),
    ] = ()
    scale: Annotated[
        Literal["smoke", "small"] | None,
        Field(
            description="The space with narrow networks and short trainings, at its own resolution and "
            "depth: smoke tries everything out in minutes, small in hours. Default: the space itself."
        ),
        Cli("NAME", SEARCHED),
    ] = None
    objectives: Annotated[
        tuple[str, ...],
        Field(
            description="Replace the space's objectives. Repeatable, once for each; WORST is the coordinate "
            "of the hypervolume's reference point."
        ),
        Cli("NAME:min|max[:WORST]", SEARCHED, name="--objective"),
    ] = ()
    sampler: Annotated[
        str,
        Field(
            description="What proposes configurations: known-cost, modelled-cost, tpe, nsga2, gp, sobol, "
            "random, stratified, or an Optuna sampler by its dotted path, with its options: "
            "'optuna.samplers.CmaEsSampler(n_startup_trials=5)'."
        ),
        Cli("NAME", SEARCHED),
    ] = "known-cost"
    seed: Annotated[
        Seed, Field(description="Seed of the search and of every student."), Cli("N", SEARCHED)
    ] = 0
    warm_start: Annotated[
        tuple[UserPath, ...],
        Field(
            description="Let the search begin with the results of an earlier sweep, or with a table of "
            "configurations and scores. Repeatable."
        ),
        Cli("SWEEP|TABLE", SEARCHED),
    ] = ()
    trials: Annotated[
        NumTrials,
        Field(
            description="Students that the search trains, besides the baselines. A space of Settings alone "
            "trains all of its own instead."
        ),
        Cli("N", BUDGET),
    ] = 8
    max_hours: Annotated[
        AmountAboveZero | None,
        Field(
            description="Start no trial after so many hours of wall-clock time, all starts of the sweep "
            "together. Default: no limit."
        ),
        Cli("HOURS", BUDGET),
    ] = None
    """The training of evaluator and teacher counts, too."""
    max_gpu_hours: Annotated[
        AmountAboveZero | None,
        Field(description="Start no trial after the trials have taken so many GPU-hours. Default: no limit."),
        Cli("HOURS", BUDGET),
    ] = None
    """Of the trials that have ended, without evaluator and teacher."""
    early_stopping: Annotated[
        bool,
        Field(
            description="Stop students from which the front is expected to gain less than the rest of their "
            "training is worth."
        ),
        Cli(panel=BUDGET),
    ] = False
    replicates: Annotated[
        NumTrials,
        Field(
            description="After the search, train students whose place on the front is uncertain with further "
            "seeds: at most N trainings."
        ),
        Cli("N", BUDGET),
    ] = 0
    stability: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(
            description="End the replicates early, when this share of the front, above 0 and up to 1, is "
            "expected to stay the same. Default: when every place is certain."
        ),
        Cli("SHARE", BUDGET),
    ] = None
    skip_recheck: Annotated[
        bool,
        Field(
            description="Do not train a member of the front once more at the end, which shows that several "
            "workers reach the result of one."
        ),
        Cli(panel=BUDGET),
    ] = False
    plan: Annotated[
        bool,
        Field(description="Check everything, say what the sweep will take, and stop: the command `plan`."),
        Cli(panel=BUDGET),
    ] = False
    seconds_per_image: Annotated[
        AmountAboveZero | None,
        Field(
            description="Training time of one image that the plan counts with, for every network. Default: a "
            "few steps are timed here."
        ),
        Cli("SECONDS", BUDGET),
    ] = None
    nimg: Annotated[
        NumImages | None,
        Field(description="Images that a student is trained on. Default: what the config says."),
        Cli("IMAGES", STUDENT),
    ] = None
    max_macs: Annotated[
        Annotated[MacsLimit, Field(gt=0)] | None,
        Field(
            description="Train no student of more multiply-accumulates an image. :CONVENTION says how they "
            "are counted where that is not true: conv_out, conv_out+norm or cagc, as in published tables."
        ),
        Cli("MACS[:CONVENTION]", STUDENT, read=str),
    ] = None
    min_macs: Annotated[
        MacsLimit | None,
        Field(description="Train no student of fewer multiply-accumulates an image, counted likewise."),
        Cli("MACS[:CONVENTION]", STUDENT, read=str),
    ] = None
    max_params: Annotated[
        CostAboveZero | None, Field(description="Train no student of more parameters."), Cli("N", STUDENT)
    ] = None
    min_params: Annotated[
        Cost | None, Field(description="Train no student of fewer parameters."), Cli("N", STUDENT)
    ] = None
    max_memory_gb: Annotated[
        AmountAboveZero | None,
        Field(description="Train no student whose training is predicted to take more memory on one worker."),
        Cli("GIB", STUDENT),
    ] = None
    teacher: Annotated[
        UserPath | None,
        Field(
            description="A generator that is used as the teacher: the folder of a trained or imported one, "
            "or a checkpoint file (.pth, .pt, .pkl, .safetensors), which is imported into --store. Default: "
            "a teacher is trained."
        ),
        Cli("FOLDER|FILE", TEACHER),
    ] = None
    teacher_network: Annotated[
        str | None,
        Field(description="Which network of a checkpoint file that holds several: netG_A."),
        Cli("NAME", TEACHER),
    ] = None
    teacher_workers: Annotated[
        NumWorkers | None,
        Field(
            description="Workers that share the training of the evaluator and of the teacher. Default: 2, or "
            "1 where 2 do not fit."
        ),
        Cli("N", TEACHER),
    ] = None
    teacher_gpus: Annotated[
        Amount | None,
        Field(
            description="GPUs of each of these workers, or a share of one. Default: 1, or 0 where there is "
            "no GPU."
        ),
        Cli("GPUS", TEACHER),
    ] = None
    teacher_cache_gb: Annotated[
        Amount,
        Field(
            description="Store the teacher's outputs for all trials where they need no more than this, or "
            "record what teachers give that train beside students; 0: never. Where they are not stored, the "
            "teacher runs, or teachers train, in every trial."
        ),
        Cli("GIB", TEACHER),
    ] = 2.0
    features: Annotated[
        UserPath | None,
        Field(
            description="VGG16 weights for feature losses: torchvision's file, or a .safetensors of the same "
            "names, with or without the classifier. Default: a small network trained on the data stands in."
        ),
        Cli("FILE", TEACHER),
    ] = None
    extractors: Extractors = ()
    segmenters: Segmenters = ()
    lpips: LpipsFile = None
    real_statistics: RealStatistics = ()
    real_split: RealPictures = "own"
    num_scored: NumScored = None
    score_every: ScoreEvery = False
    executor: Executor = "auto"
    workers_per_trial: WorkersPerTrial = 1
    cpus_per_worker: CpusPerWorker = 1
    gpus_per_worker: GpusPerWorker = None
    """None: a whole GPU, or a half, third or fourth of one where the predicted memory allows it."""
    max_concurrent: MaxConcurrent = None
    wait_for_nodes: WaitForNodes = 120.0
    store: Annotated[
        UserPath,
        Field(description="Results folder, or s3://bucket/prefix of an S3-compatible object store."),
        Cli("FOLDER|URL", RESULTS),
    ] = "runs"
    name: Annotated[
        Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None,
        Field(description="Name of the sweep. Default: the space and a number."),
        Cli("NAME", RESULTS),
    ] = None
    resume: Annotated[
        bool,
        Field(
            description="Go on with the newest sweep of the same settings, or with the one that --name names."
        ),
        Cli(panel=RESULTS),
    ] = False
    mlflow: Annotated[
        UserPath | None,
        Field(description="MLflow tracking server or store. Default: an sqlite file in --store."),
        Cli("URI", RESULTS),
    ] = None
    experiment: Annotated[
        str,
        Field(description="MLflow experiment.", min_length=1, max_length=LONGEST_EXPERIMENT),
        Cli("NAME", RESULTS),
    ] = "raydistill"
    system_metrics: Annotated[
        bool,
        Field(
            description="Have MLflow record CPU, memory, disk, network and GPUs of the machine where the "
            "command runs."
        ),
        Cli(panel=RESULTS),
    ] = False


class SweepCommandOptions(SweepOptions):
    """What `raydistill sweep` is given: a sweep, and how its end is printed."""

    as_json: Annotated[
        bool,
        Field(description="Print the end, or the plan, as JSON on stdout; everything else goes to stderr."),
        Cli(panel=RESULTS, name="--json"),
    ] = False


class PlanOptions(SweepCommandOptions):
    """What `raydistill plan` is given: a sweep that stops at its plan."""

    plan: Annotated[bool, Cli(hidden=True)] = True
