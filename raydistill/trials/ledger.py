"""The ledger of a sweep: its trials on disk and in memory, and the front over them. It knows no framework."""

import itertools
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raydistill import search
from raydistill.config.configurations import recorded_values, settings_label
from raydistill.config.experiment import student_job
from raydistill.config.paths import leaves
from raydistill.config.training import DistillTraining, StudentTraining
from raydistill.errors import StoreError
from raydistill.models import cost
from raydistill.planning.plan import Plan
from raydistill.records import pareto, remote, store, tables
from raydistill.records.files import disk_is_full
from raydistill.records.trials import (
    Evaluation,
    Role,
    Trial,
    TrialResult,
    another_in_its_place,
    read_result,
    read_trials,
    write_result,
    write_trial,
)
from raydistill.search import warm_start
from raydistill.training import checkpoint
from raydistill.trials.run_job import NOTHING_MEASURED, is_network_whole
from raydistill.trials.stages import Stages, job_of_teacher


class Ledger:
    """Every trial that was proposed, in the order of their numbers. A change is on disk before it is here."""

    def __init__(self, plan: Plan, folder: Path, stages: Stages):
        """Reads the trials of the sweep in `folder`, and adds teacher and baselines where they are missing.

        Raises:
            StoreError: a file is damaged, or the trials there were made with another evaluator or teacher.
        """
        self.plan, self.folder, self.stages = plan, folder, stages
        for trial_folder in remote.folders(folder / "trials"):
            remote.pull(trial_folder)
        self.trials = read_trials(folder)
        self.problem = plan.problem._replace(
            prior_observations=warm_start.load(folder, store.read_sweep(folder))
        )
        self._reports: dict[str, dict[int, Evaluation]] = {}
        """Trial id -> images seen -> the evaluation there, for trials without a result."""
        self._told: dict[str, search.Observation] = {}
        """Trial id -> what the search knows of it, for searched trials in their order."""
        self._points: dict[str, list[float]] = {}
        """Trial id -> its objectives, for those that are COMPLETE, replicates included."""
        self._require_whole()
        self._require_same_stages()
        for trial in self.trials:
            self._note(trial)
        self._add_missing()
        self._without_network = {
            trial.trial_id
            for trial in self.trials
            if trial.role != "teacher"
            and trial.result is not None
            and not is_network_whole(self.folder_of(trial), trial.result)
        }
        """Trials with a result whose network is damaged; `perform` makes it again."""
        for trial in self.unfinished:
            for evaluation in checkpoint.read_history(self.folder_of(trial)):
                self.take_in(trial, evaluation)

    def _note(self, trial: Trial) -> None:
        """Keeps what is asked at the end of each trial, of which there may be thousands."""
        if trial.role == "search":
            self._told[trial.trial_id] = self._observation(trial)
        if trial.is_complete and trial.role in (*tables.FRONT_ROLES, "replicate"):
            self._points[trial.trial_id] = [trial.value(name) for name, _ in self.plan.objectives]
        else:
            self._points.pop(trial.trial_id, None)

    def folder_of(self, trial: Trial) -> Path:
        """Folder of a trial, which exists once the trial was proposed."""
        return self.folder / "trials" / trial.trial_id

    @property
    def searched(self) -> list[Trial]:
        """The trials that the search has proposed, without baselines, replicates and recheck."""
        return [trial for trial in self.trials if trial.role == "search"]

    @property
    def unfinished(self) -> list[Trial]:
        """Students to train before new ones are proposed.

        They are baselines, those that an interrupt ended, and those whose network is to be made again.
        """
        return [
            trial
            for trial in self.trials
            if trial.trial_id in self._without_network or (trial.result is None and trial.role != "recheck")
        ]

    def propose(self) -> Trial:
        """Adds the next searched trial. Raises BudgetError where the space has no further configuration."""
        configuration = search.propose(self.problem, self.history(), len(self._told))
        values = recorded_values(self.plan.space, configuration)
        training = self.plan.student_of(configuration)
        label = settings_label(self.plan.space, configuration) or label_of(training)
        return self._add("search", label, values, training, configuration=configuration)

    def history(self) -> list[search.Observation]:
        """What the search knows: an observation of each searched trial, in their order."""
        return list(self._told.values())

    def _observation(self, trial: Trial) -> search.Observation:
        result, budget = trial.result, trial.budget_nimg
        names = [name for name, _ in self.plan.objectives]
        if result is None:
            evaluations, state = list(self._reports.get(trial.trial_id, {}).values()), "RUNNING"
        else:
            evaluations, state = result.evaluations, result.status
        curve = [
            (point.nimg / budget, [trial.value_at(name, point.numbers) for name in names])
            for point in evaluations
            if point.nimg < budget
            and all(name.startswith("cost/") or name in point.numbers for name in names)
        ]
        values = [trial.value(name) for name in names] if state == "COMPLETE" else None
        assert trial.configuration is not None
        return search.Observation(trial.configuration, state, values, curve)

    def take_in(self, trial: Trial, evaluation: Evaluation) -> None:
        """Takes an evaluation of a trial without a result into its learning curve."""
        self._reports.setdefault(trial.trial_id, {})[evaluation.nimg] = evaluation
        self._note(trial)

    def add_recheck(self, original: Trial) -> Trial:
        """Adds the same job once more, as a trial that never competes for the front."""
        training = original.job.training
        assert isinstance(training, StudentTraining)
        label = f"{original.trial_id} again, 2 workers"
        return self._add("recheck", label, original.params, training, recheck_of=original.trial_id)

    @property
    def replicates(self) -> list[Trial]:
        """The trials that repeat a student with another seed."""
        return [trial for trial in self.trials if trial.role == "replicate"]

    def to_replicate(self) -> Trial | None:
        """The student to train again with another seed: see `search.next_to_repeat`.

        None: as many replicates as --replicates allows, every place on the front certain, or the front as
        stable as --stability asks for.
        """
        options, objectives = self.plan.options, self.plan.objectives
        if len(self.replicates) >= options.replicates:
            return None
        students = [trial for trial in self.trials if trial.role in tables.FRONT_ROLES]
        competitors = [trial for trial in students if trial.is_complete]
        measured = []
        for trial in competitors:
            replicates = self._replicates_of(trial)
            complete = [each for each in (trial, *replicates) if each.is_complete]
            values = [[each.value(name) for name, _ in objectives] for each in complete]
            measured.append(search.Seeds(values, sum(each.result is None for each in replicates)))
        index = search.next_to_repeat(measured, [direction for _, direction in objectives], options.stability)
        return None if index is None else competitors[index]

    def add_replicate(self, original: Trial) -> Trial:
        """Adds the same training with the next seed; the front then takes the mean over the seeds."""
        seed = original.seed + 1 + len(self._replicates_of(original))
        training = original.job.training.model_copy(update={"seed": seed})
        label = f"{original.trial_id} again, seed {seed}"
        assert isinstance(training, StudentTraining)
        return self._add("replicate", label, original.params, training, replicate_of=original.trial_id)

    def _replicates_of(self, original: Trial) -> list[Trial]:
        return [each for each in self.replicates if each.replicate_of == original.trial_id]

    def end(self, trial: Trial, *, stopped: bool = False, num_gpus: float = 0.0, reason: str = "") -> Trial:
        """Takes in the result that is in the trial's folder; returns the trial with it.

        A stopped trial without a result gets one on disk, PRUNED, with what it had reached. Any other trial
        without a result counts as FAIL; that is not written, so that a resume tries it again.

        Args:
            stopped: whether early stopping ended the trial.
            num_gpus: GPUs that it held while it ran.
            reason: why it failed, in one line; "": what the worker wrote into the trial's folder says it.
        """
        folder = self.folder_of(trial)
        remote.pull(folder)
        result = read_result(folder)
        if result is None and stopped and (evaluations := checkpoint.read_history(folder)):
            result = self._pruned(trial, evaluations, num_gpus)
            write_result(folder, result)
            remote.push(folder)
        if result is None:
            reason = failure_in(folder) or reason or "it ended without a result and without an error"
            if disk_is_full(folder, reason):
                reason = f"the disk of {folder} is full ({reason})"
            result = TrialResult(
                status="FAIL",
                reason=reason,
                budget_nimg=trial.budget_nimg,
                hardware="",
                git_revision="",
                trial_key=trial.trial_key,
                **NOTHING_MEASURED,
            )
        self._without_network.discard(trial.trial_id)
        return self.put(trial, result)

    def put(self, trial: Trial, result: TrialResult) -> Trial:
        """Gives a trial of the ledger another result, which is on disk; returns the trial with it."""
        index = next(  # from the end, because it is most often one of the last
            index
            for index in range(len(self.trials) - 1, -1, -1)
            if self.trials[index].trial_id == trial.trial_id
        )
        self.trials[index] = trial.with_result(result)
        self._note(self.trials[index])
        return self.trials[index]

    def _pruned(self, trial: Trial, evaluations: list[Evaluation], num_gpus: float) -> TrialResult:
        """The result of a stopped trial, from its last checkpoint; the report that stopped it came later."""
        last, budget = evaluations[-1], trial.budget_nimg
        return TrialResult(
            status="PRUNED",
            reason=f"stopped after {last.nimg:,} of {budget:,} images",
            budget_nimg=budget,
            hardware="",
            git_revision="",
            trial_key=trial.trial_key,
            nimg=last.nimg,
            metrics=last.numbers,
            evaluations=evaluations,
            wall_sec=last.wall_sec,
            gpu_sec=last.wall_sec * num_gpus,
            context=self.stages.teacher_result.context,  # the same evaluator, split and data
        )

    def gpu_sec(self) -> float:
        """GPU-seconds of all trials with a result. The teacher's are left out: other sweeps share it."""
        own = [trial.result for trial in self.trials if trial.role != "teacher"]
        return float(sum(result.gpu_sec for result in own if result is not None))

    def table(self) -> pd.DataFrame:
        """The trials table (see `records.tables`) with the front's columns."""
        table = tables.trial_table(self.trials, sweep_id=self.folder.name)
        return tables.with_front(table, self.plan.objectives, self.reference)

    @cached_property
    def reference(self) -> list[float]:
        """The reference point of hypervolumes: see `Plan.reference`."""
        teacher = next(trial.result for trial in self.trials if trial.role == "teacher")
        return self.plan.reference({} if teacher is None else teacher.metrics)

    def front(self) -> list[Trial]:
        """The members of the front over all trained students: those of `table`, without a table."""
        points, seeds = self._points.copy(), dict[str, list[list[float]]]()
        for replicate in (trial for trial in self.replicates if trial.is_complete):
            seeds.setdefault(str(replicate.replicate_of), []).append(points.pop(replicate.trial_id))
        for original, others in seeds.items():
            points[original] = np.mean([points[original], *others], axis=0).tolist()
        if not points:
            return []
        directions = [direction for _, direction in self.plan.objectives]
        members = set(itertools.compress(points, pareto.members(list(points.values()), directions)))
        return [trial for trial in self.trials if trial.trial_id in members]

    def _require_whole(self) -> None:
        """Raises StoreError where a trial lacks what only the trials of a sweep have."""
        for trial in self.trials:
            costs, digests = ("macs", "params", "macs_convention"), ("evaluator", "teacher")
            missing = [f"costs.{name}" for name in costs if name not in trial.costs]
            missing += [f"digests.{name}" for name in digests if name not in trial.digests]
            missing += ["widths"] if trial.widths is None else []
            if trial.role == "search" and trial.configuration is None:
                missing.append("configuration")
            if missing:
                raise StoreError(
                    f"{self.folder_of(trial)}/trial.json: damaged: without {', '.join(missing)}. "
                    f"{another_in_its_place(self.folder_of(trial))}"
                )

    def _require_same_stages(self) -> None:
        """Raises StoreError where the trials had another evaluator or teacher: numbers would not compare."""
        digests = {"evaluator": self.stages.evaluator.digest, "teacher": self.stages.teacher.digest}
        for trial in self.trials:
            for name, now in digests.items():
                before = trial.digests[name]
                if before not in ("", now):
                    raise StoreError(
                        f"{self.folder}: trial {trial.trial_id} was made with {name} {before}, there is "
                        f"{now} now (trained again, with another result); start a new sweep"
                    )

    def _add_missing(self) -> None:
        """Adds teacher and baselines, where an earlier start of the sweep has not done it."""
        labels = {trial.label for trial in self.trials}
        if "teacher" not in labels:
            self._add("teacher", "teacher", {}, self.plan.experiment.teacher_itself)
        teacher = next(trial for trial in self.trials if trial.role == "teacher")
        if teacher.result is None:
            folder = self.folder_of(teacher)
            samples = Path(self.stages.teacher.path).parent / "samples.png"
            shutil.copyfile(samples, folder / "samples.png")
            write_result(folder, self.stages.teacher_result)
            self.put(teacher, self.stages.teacher_result)
            remote.push(folder)
        for role, label, training in self.plan.baselines:
            if label not in labels:
                widths = leaves(training.generator.widths)
                params = {f"student.generator.widths.{name}": width for name, width in widths.items()}
                if role == "uniform":
                    params |= {
                        f"student.terms.{name}.weight": 0.0 for name in self.plan.experiment.student.terms
                    }
                self._add(role, label, params, training)

    def _add(
        self, role: Role, label: str, params: Mapping[str, Any], training: StudentTraining, **extra: Any
    ) -> Trial:
        """Writes a new trial to disk, without a result. `extra`: further fields of it."""
        if role not in ("teacher", "replicate"):
            training = training.model_copy(update={"seed": self.plan.options.seed})
        plan = self.plan
        training = plan.with_record_limit(training)
        if (
            role == "teacher"
        ):  # what scores it beside the evaluator is no part of its job: `stages.train_stages`
            job = job_of_teacher(plan.experiment, plan.data, self.stages.evaluator)
        else:
            shared = self.stages.shared
            job = student_job(training, plan.experiment, plan.data, shared, plan.scoring)
        costs = {name.removeprefix("cost/"): value for name, value in self.plan.costs_of(training).items()}
        number = max((trial.number for trial in self.trials), default=-1) + 1
        trial = Trial(
            number=number,
            trial_id=f"{number:04d}",
            role=role,
            label=label,
            params=dict(params),
            widths="-".join(str(width) for width in leaves(training.generator.widths).values()),
            costs=costs | {"macs_convention": cost.MACS_CONVENTION},
            trial_key=job.key,
            seed=training.seed,
            job=job.model_dump(mode="json"),
            digests={
                "data": job.data.digest,
                "evaluator": self.stages.evaluator.digest,
                "teacher": job.teacher.digest if job.teacher else "",
            },
            **extra,
        )
        write_trial(self.folder_of(trial), trial)
        self.trials.append(trial)
        self._note(trial)
        remote.push(self.folder_of(trial))
        return trial


def failure_in(folder: Path) -> str:
    """The last line of what a worker wrote of its error; "": it wrote nothing."""
    try:
        return (folder / "error.txt").read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return ""


def label_of(training: DistillTraining) -> str:
    """What a person calls a searched trial: the weights of its terms, and its base where it is not plain."""
    of_terms = [
        f"{'MI' if name == 'mi' else name} {term.weight:g}" for name, term in training.active_terms.items()
    ]
    words = ", ".join(of_terms) or "no MI"
    return words if training.base.kind == "plain" else f"{training.base.kind}, {words}"
