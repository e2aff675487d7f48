"""What all trials of a sweep share: evaluator, teacher, and a feature network where losses need one.

Each is trained once and kept in the cache.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from raydistill import distributed
from raydistill.config.base import Frozen, Stored, digest
from raydistill.config.experiment import Experiment, Job, Shared
from raydistill.config.scoring import Scoring
from raydistill.config.training import DistillTraining, OutputKind
from raydistill.data import read_info
from raydistill.data.outputs import LIMIT_GB, chunk_of, load_outputs, store_outputs
from raydistill.errors import CheckpointError, RunError, say_notice
from raydistill.evaluation.evaluator_scores import score_network
from raydistill.evaluation.task_scorer import QUANTITIES, chance
from raydistill.models import saved
from raydistill.models.inputs import latent_size, repeats
from raydistill.models.networks import evaluator_task
from raydistill.reading import read_text
from raydistill.records import remote
from raydistill.records.files import write_json_atomic
from raydistill.records.trials import TrialResult, read_result
from raydistill.training.kept_reports import best_so_far, report_folder
from raydistill.training.loop import Report
from raydistill.trials.run_job import discriminator_of, is_network_whole, network_of, perform


class Stages(NamedTuple):
    """The trained evaluator and teacher, with their results, and what belongs to them, see `Shared`."""

    evaluator: Stored
    teacher: Stored
    evaluator_result: TrialResult
    teacher_result: TrialResult
    features: Stored | None = None
    discriminator: Stored | None = None
    slabs: tuple[Stored, ...] = ()

    @property
    def shared(self) -> Shared:
        """What all trials share."""
        return Shared(self.evaluator, self.teacher, self.features, self.discriminator, self.slabs)


def train_stages(
    experiment: Experiment,
    data: Stored,
    cache: Path,
    report: Report,
    outputs_gb: float = LIMIT_GB,
    scoring: Scoring | None = None,
) -> Stages:
    """Trains the evaluator, then the teacher, then stores the teacher's outputs. Collective.

    Where students' losses need a feature network, and no file is given, that is trained after the evaluator.
    What is in the cache is taken from there. Networks from files score the teacher once it is there: it is
    trained once, whatever scores it.

    Args:
        cache: folder whose subfolders are named after the keys of the jobs.
        report: is given each evaluation.
        outputs_gb: the teacher's outputs on the training pictures are stored where they need no more GiB.
        scoring: what scores the teacher beside the evaluator.

    Raises:
        RunError: one of them failed.
    """
    evaluator, evaluator_result = train_evaluator(experiment, data, cache, report)
    features = train_features(experiment, data, cache, report)
    teacher_job = job_of_teacher(experiment, data, evaluator)
    teacher_folder = cache / "teacher" / teacher_job.key
    teacher_result = _completed(perform(teacher_job, teacher_folder, report), teacher_folder)
    teacher = network_of(teacher_folder, teacher_result)
    _store_outputs_once(teacher, data, experiment.student, experiment.teacher.outputs, outputs_gb)
    if scoring is not None:
        teacher_result = _scored(teacher, teacher_result, data, evaluator, scoring, teacher_folder)
    discriminator = discriminator_of(teacher_folder, teacher_result)
    slabs = slabs_of(teacher_folder, teacher_result) if experiment.teacher_itself.keeps_reports else ()
    return Stages(evaluator, teacher, evaluator_result, teacher_result, features, discriminator, slabs)


def slabs_of(folder: Path, result: TrialResult) -> tuple[Stored, ...]:
    """For each report of a teacher's training the best network so far, from its folder.

    Raises:
        RunError: one is missing or damaged.
    """
    numbers = [result.evaluations[best].nimg for best in best_so_far(result.evaluations)]
    again = f"remove {folder}, and the teacher is trained again"
    try:
        found = tuple(saved.stored(report_folder(folder, nimg), kind="generator") for nimg in numbers)
    except CheckpointError as error:
        raise RunError(f"{error}; {again}") from None
    for slab in dict.fromkeys(found):
        if not saved.is_whole(slab):
            raise RunError(f"{slab.path}: the weights are missing or damaged; {again}")
    return found


class _Scores(Frozen):
    """What networks from files said of a teacher, and what they said it with."""

    numbers: dict[str, float]
    context: dict[str, Any]


def _scored(
    teacher: Stored, result: TrialResult, data: Stored, evaluator: Stored, scoring: Scoring, folder: Path
) -> TrialResult:
    """A teacher's result with the scores of all networks on val, which `folder` keeps. Collective."""
    workers, file = distributed.current(), _scores_file(folder, scoring)
    scores = _read_scores(file)
    is_there = distributed.gather_rows(torch.tensor([scores is not None]), workers).all()
    if scores is None or not is_there:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for each in scoring.files:
            remote.pull(Path(each.file.path))
        numbers, context = score_network(teacher, data, evaluator, "val", device, scoring, workers)
        scores = _Scores(numbers=numbers, context=context)
        if workers.is_main:
            write_json_atomic(file, scores.model_dump())
            remote.push(file)
        distributed.barrier(workers)
    others = {name: value for name, value in result.metrics.items() if not name.startswith("val/")}
    numbers = others | scores.numbers
    last = [each.model_copy(update={"numbers": numbers}) for each in result.evaluations[-1:]]
    changes = {"metrics": numbers, "evaluations": [*result.evaluations[:-1], *last]}
    return result.model_copy(update=changes | {"context": scores.context})


def _scores_file(folder: Path, scoring: Scoring) -> Path:
    """Where the scores of a teacher lie; when students are scored changes nothing about them."""
    return folder / f"scores-{digest(scoring.model_copy(update={'at_reports': False}))}.json"


def _read_scores(file: Path) -> _Scores | None:
    """What a file has; None: there is none, or it is damaged."""
    remote.pull(file)
    try:
        return _Scores.model_validate_json(read_text(file))
    except (OSError, ValueError):
        return None


def job_of_teacher(experiment: Experiment, data: Stored, evaluator: Stored) -> Job:
    """What gives the teacher: its training, or one scoring of the network that was given."""
    given = experiment.given_teacher
    return Job(training=experiment.teacher_itself, data=data, evaluator=evaluator, teacher=given)


def train_evaluator(
    experiment: Experiment, data: Stored, cache: Path, report: Report
) -> tuple[Stored, TrialResult]:
    """Trains the evaluator, or takes it from the cache, as `train_stages` does; with its result.

    Raises:
        RunError: it failed, or learnt nothing.
    """
    job = Job(training=experiment.evaluator, data=data)
    folder = cache / "evaluator" / job.key
    result = _completed(perform(job, folder, report), folder)
    _require_learnt(job, result)
    return network_of(folder, result), result


def train_features(experiment: Experiment, data: Stored, cache: Path, report: Report) -> Stored | None:
    """Trains what stands in for VGG16 in losses of features, or takes it from the cache. Collective.

    Returns:
        The network; the file that was given, where one was; None where the students' losses need none.

    Raises:
        RunError: it failed.
    """
    if not experiment.needs_features:
        return None
    if (given := experiment.given_features) is not None:
        remote.pull(Path(given.path))
        return given
    job = Job(training=experiment.features, data=data)
    folder = cache / "features" / job.key
    return network_of(folder, _completed(perform(job, folder, report), folder))


def features_done(experiment: Experiment, data: Stored, cache: Path) -> bool:
    """Whether `train_features` would train nothing."""
    if not experiment.needs_features or experiment.given_features is not None:
        return True
    return _network_done(cache / "features" / Job(training=experiment.features, data=data).key) is not None


_SMOKE_NIMG = 500
"""An evaluator of fewer images is for a try of the whole, and need not have learnt anything."""


def _require_learnt(job: Job, result: TrialResult) -> None:
    """Says so where an evaluator is not better than one answer for all real pictures.

    Raises:
        RunError: this, after `_SMOKE_NIMG` images or more; or its task had one answer, so that there was
            nothing to learn.
    """
    losses = [each.numbers.get("train/evaluator_loss", 1.0) for each in result.evaluations]
    if losses and max(losses) < 1e-6:
        raise RunError(
            "the evaluator's loss is 0 from the start: its task has one answer, and it would score nothing. "
            "Look at the classes of the training pictures: raydistill data inspect"
        )
    task = evaluator_task(read_info(job.data))
    name, worst = f"val/{QUANTITIES[task]}", chance(job.data, "val")
    if name not in result.metrics:
        return
    is_better = result.metrics[name] < worst if task == "input_picture" else result.metrics[name] > worst
    if is_better:
        return
    budget = job.training.budget_nimg
    message = (
        f"the evaluator does not beat chance on real pictures after {budget:,} images: {name} "
        f"{result.metrics[name]:.4f}, and one answer for all of them gives {worst:.4f}"
    )
    if budget >= _SMOKE_NIMG:
        raise RunError(
            f"{message}; what it scores would mean nothing. Give it more images (--set "
            f"evaluator.budget_nimg={4 * budget}), or data whose labels or classes show in the pictures"
        )
    if distributed.current().is_main:
        say_notice(f"{message}; what it scores means nothing")


def evaluator_done(experiment: Experiment, data: Stored, cache: Path) -> Stored | None:
    """The evaluator in the cache; None: there is none yet, and `train_stages` would train it."""
    return _network_done(cache / "evaluator" / Job(training=experiment.evaluator, data=data).key)


def _network_done(folder: Path) -> Stored | None:
    """The network that a training left in its folder in the cache; None: it has to be trained."""
    remote.pull(folder)
    result = read_result(folder)
    if result is None or result.status != "COMPLETE" or not is_network_whole(folder, result):
        return None
    return network_of(folder, result)


def stages_done(experiment: Experiment, data: Stored, cache: Path, scoring: Scoring | None = None) -> bool:
    """Whether evaluator, feature network and teacher are in the cache, and scored: `train_stages` has nothing
    to do.
    """
    if not features_done(experiment, data, cache):
        return False
    if (evaluator := evaluator_done(experiment, data, cache)) is None:
        return False
    teacher_folder = cache / "teacher" / job_of_teacher(experiment, data, evaluator).key
    remote.pull(teacher_folder)
    teacher_result = read_result(teacher_folder)
    if teacher_result is None or not is_network_whole(teacher_folder, teacher_result):
        return False
    return scoring is None or _read_scores(_scores_file(teacher_folder, scoring)) is not None


def _store_outputs_once(
    teacher: Stored,
    data: Stored,
    student: DistillTraining,
    kind: OutputKind = "float32",
    limit_gb: float = LIMIT_GB,
) -> None:
    """Stores the teacher's outputs on the training pictures, where inputs repeat, up to `limit_gb` GiB."""
    workers, flip, chunk = distributed.current(), student.flip, chunk_of(student.batch_size)
    latent = latent_size(saved.generator_config(teacher))
    can_repeat = workers.is_main and repeats(read_info(data), latent)
    if can_repeat and load_outputs(teacher, data, flip, chunk, kind) is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = saved.load(teacher, read_info(data), device)
        store_outputs(teacher, data, network, flip, device, limit_gb, chunk=chunk, kind=kind)
        remote.push(Path(teacher.path))
    distributed.barrier(workers)


def _completed(result: TrialResult, folder: Path) -> TrialResult:
    if result.status != "COMPLETE":
        raise RunError(f"{folder}: {result.reason}; correct the config, or remove that folder to try again")
    return result
