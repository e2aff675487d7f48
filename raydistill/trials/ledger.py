"""The trials of one sweep: on disk and in memory, with the front over them. Knows no framework."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from raydistill import search
from raydistill.config.experiment import Job
from raydistill.config.paths import leaves, with_values
from raydistill.config.space import values_of
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.errors import StoreError
from raydistill.models import cost
from raydistill.planning.plan import Plan
from raydistill.records import remote, store, tables
from raydistill.records.trials import read_result, read_trials, write_result, write_trial
from raydistill.search import warm_start
from raydistill.training import checkpoint
from raydistill.trials.run_job import NOTHING_MEASURED
from raydistill.trials.stages import Stages

Trial = dict[str, Any]
"""The content of a trial.json, and under "result" that of its result.json or None."""
Numbers = dict[str, Any]
StudentTraining = DistillTraining | GeneratorTraining


class Ledger:
    """Every trial proposed, by number. What is changed here is on disk first."""

    def __init__(self, plan: Plan, folder: Path, stages: Stages):
        self.plan, self.folder, self.stages = plan, folder, stages
        for trial_folder in remote.folders(folder / "trials"):
            remote.pull(trial_folder)
        self.trials = read_trials(folder)
        self.problem = plan.problem._replace(
            prior_observations=warm_start.load(folder, store.read_sweep(folder))
        )
        self._reports: dict[str, dict[int, Numbers]] = {}
        """Trial -> images seen -> what was measured there, of trials without a result."""
        self._require_same_stages()
        self._add_missing()
        for trial in self.unfinished:
            for evaluation in checkpoint.read_history(self.folder_of(trial)):
                self.take_in(trial, evaluation)

    def folder_of(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial["trial_id"]

    @property
    def searched(self) -> list[Trial]:
        return [trial for trial in self.trials if trial["role"] == "search"]

    @property
    def unfinished(self) -> list[Trial]:
        """Students to train before new ones are proposed: baselines, and what an interrupt left."""
        return [trial for trial in self.trials if trial["result"] is None and trial["role"] != "recheck"]

    def propose(self) -> Trial:
        """The next searched trial. Raises BudgetError where the space is exhausted."""
        configuration = search.propose(self.problem, self.history(), len(self.searched))
        values = values_of(self.plan.space, configuration)
        training = with_values(self.plan.experiment, values, where="search").student
        label = f"MI {training.mi.weight:g}" if training.mi.weight else "no MI"
        return self._add("search", label, values, training, configuration=configuration)

    def history(self) -> list[search.Observation]:
        """What the search knows: the searched trials in their order."""
        return [self._observation(trial) for trial in self.searched]

    def _observation(self, trial: Trial) -> search.Observation:
        result, budget = trial["result"], trial["job"]["training"]["budget_nimg"]
        evaluations = (
            list(self._reports.get(trial["trial_id"], {}).values())
            if result is None
            else result["evaluations"]
        )
        names = [name for name, _ in self.plan.objectives]
        curve = [
            (point["nimg"] / budget, [_value(trial["costs"], point, name) for name in names])
            for point in evaluations
            if point["nimg"] < budget
        ]
        state = "RUNNING" if result is None else result["status"]
        return search.Observation(
            trial["configuration"],
            state,
            [self.value(trial, name) for name in names] if state == "COMPLETE" else None,
            curve,
        )

    def take_in(self, trial: Trial, numbers: Numbers) -> None:
        """An evaluation of a trial without a result."""
        self._reports.setdefault(trial["trial_id"], {})[int(numbers["nimg"])] = numbers

    def add_recheck(self, original: Trial) -> Trial:
        """The same job once more; never a competitor for the front."""
        training = Job.model_validate(original["job"]).training
        assert isinstance(training, StudentTraining)
        label = f"{original['trial_id']} again, 2 workers"
        return self._add("recheck", label, original["params"], training, recheck_of=original["trial_id"])

    @property
    def replicates(self) -> list[Trial]:
        return [trial for trial in self.trials if trial["role"] == "replicate"]

    def to_replicate(self) -> Trial | None:
        """The student to train again with another seed: see `search.next_to_repeat`. None: enough, or certain, or stable enough."""
        options, objectives = self.plan.options, self.plan.objectives
        if len(self.replicates) >= options.replicates:
            return None
        competitors = [
            trial for trial in self.trials if trial["role"] in tables.FRONT_ROLES and _is_complete(trial)
        ]
        measured = []
        for trial in competitors:
            replicates = [other for other in self.replicates if other["replicate_of"] == trial["trial_id"]]
            values = [
                [self.value(each, name) for name, _ in objectives]
                for each in (trial, *replicates)
                if _is_complete(each)
            ]
            measured.append(search.Seeds(values, sum(each["result"] is None for each in replicates)))
        index = search.next_to_repeat(measured, [direction for _, direction in objectives], options.stability)
        return None if index is None else competitors[index]

    def add_replicate(self, original: Trial) -> Trial:
        """The same training by the next seed that it has not had; it counts for the front by the mean."""
        seed = (
            original["seed"]
            + 1
            + sum(other["replicate_of"] == original["trial_id"] for other in self.replicates)
        )
        training = Job.model_validate(original["job"]).training.model_copy(update={"seed": seed})
        label = f"{original['trial_id']} again, seed {seed}"
        return self._add("replicate", label, original["params"], training, replicate_of=original["trial_id"])  # type: ignore[arg-type]

    def end(self, trial: Trial, *, stopped: bool = False, num_gpus: float = 0.0) -> None:
        """Takes in the result that is in the trial's folder. `num_gpus`: what it held while it ran.

        Without one, a trial that was stopped is PRUNED, with what it had reached: that is kept. Any other has FAILed, which is not
        kept: a resume tries it again.
        """
        folder = self.folder_of(trial)
        remote.pull(folder)
        result = read_result(folder)
        if result is None and stopped:
            result = write_result(folder, self._pruned(trial, num_gpus))
            remote.push(folder)
        if result is None:
            error = folder / "error.txt"
            reason = (
                error.read_text().strip().splitlines()[-1]
                if error.exists()
                else "the worker process died (killed, or out of memory)"
            )
            result = NOTHING_MEASURED | self._unfinished(trial, "FAIL", reason)
        trial["result"] = result

    def _pruned(self, trial: Trial, num_gpus: float) -> dict[str, Any]:
        """The result of a stopped trial, from its last checkpoint, which was written before the report that stopped it."""
        evaluations = checkpoint.read_history(self.folder_of(trial))
        nimg, wall_sec = evaluations[-1]["nimg"], evaluations[-1]["wall_sec"]
        budget = trial["job"]["training"]["budget_nimg"]
        return self._unfinished(trial, "PRUNED", f"stopped after {nimg:,} of {budget:,} images") | {
            "trial_key": trial["trial_key"],
            "nimg": nimg,
            "metrics": {
                name: value for name, value in evaluations[-1].items() if name not in ("nimg", "wall_sec")
            },
            "evaluations": evaluations,
            "wall_sec": wall_sec,
            "gpu_sec": wall_sec * num_gpus,
            "context": self.stages.teacher_result["context"],  # the same evaluator, split and data
        }

    def _unfinished(self, trial: Trial, status: str, reason: str) -> dict[str, Any]:
        budget = trial["job"]["training"]["budget_nimg"]
        return {"status": status, "reason": reason, "budget_nimg": budget, "hardware": "", "git_revision": ""}

    def gpu_sec(self) -> float:
        """GPU-seconds of every trial with a result, but for the teacher, which other sweeps share."""
        return float(
            sum(
                trial["result"]["gpu_sec"]
                for trial in self.trials
                if trial["result"] is not None and trial["role"] != "teacher"
            )
        )

    def value(self, trial: Trial, name: str) -> float:
        """A cost, or a quality of a trial that is COMPLETE."""
        return _value(trial["costs"], trial["result"]["metrics"], name)

    def table(self) -> pd.DataFrame:
        table = tables.trial_table(self.trials, sweep_id=self.folder.name)
        return tables.with_front(table, self.plan.objectives, self.plan.reference)

    def front(self) -> list[Trial]:
        """Members of the front over all trained students."""
        table = self.table()
        members = set(table["trial_id"][table["front.member"]])
        return [trial for trial in self.trials if trial["trial_id"] in members]

    def _require_same_stages(self) -> None:
        """Raises StoreError where evaluator or teacher are not those of the trials there: their numbers would not compare."""
        for trial in self.trials:
            for name, now in (
                ("evaluator", self.stages.evaluator.digest),
                ("teacher", self.stages.teacher.digest),
            ):
                if trial["digests"][name] not in ("", now):
                    raise StoreError(
                        f"{self.folder}: trial {trial['trial_id']} was made with {name} {trial['digests'][name]}, there is {now} now "
                        "(trained again, with another result); start a new sweep"
                    )

    def _add_missing(self) -> None:
        """Teacher and baselines, where an earlier start has not added them."""
        known = {trial["label"] for trial in self.trials}
        if "teacher" not in known:
            self._add("teacher", "teacher", {}, self.plan.experiment.teacher)
        teacher = next(trial for trial in self.trials if trial["role"] == "teacher")
        if teacher["result"] is None:
            shutil.copyfile(
                Path(self.stages.teacher.path).parent / "samples.png", self.folder_of(teacher) / "samples.png"
            )
            teacher["result"] = write_result(self.folder_of(teacher), self.stages.teacher_result)
            remote.push(self.folder_of(teacher))
        for role, label, training in self.plan.baselines:
            if label not in known:
                params = {
                    f"student.generator.widths.{name}": width
                    for name, width in leaves(training.generator.widths).items()
                }
                self._add(
                    role, label, params | ({"student.mi.weight": 0.0} if role == "uniform" else {}), training
                )

    def _add(
        self, role: str, label: str, params: dict[str, Any], training: StudentTraining, **extra: Any
    ) -> Trial:
        if role not in ("teacher", "replicate"):
            training = training.model_copy(update={"seed": self.plan.options.seed})
        teacher = self.stages.teacher if isinstance(training, DistillTraining) else None
        job = Job(training=training, data=self.plan.data, evaluator=self.stages.evaluator, teacher=teacher)
        costs = self.plan.costs_of(training)
        number = max((trial["number"] for trial in self.trials), default=-1) + 1
        trial = {
            "number": number,
            "trial_id": f"{number:04d}",
            "role": role,
            "label": label,
            "params": params,
            "widths": "-".join(str(width) for width in leaves(training.generator.widths).values()),
            "costs": {name.removeprefix("cost/"): value for name, value in costs.items()}
            | {"macs_convention": cost.MACS_CONVENTION},
            "trial_key": job.key,
            "seed": training.seed,
            "job": job.model_dump(mode="json"),
            "digests": {
                "data": job.data.digest,
                "evaluator": self.stages.evaluator.digest,
                "teacher": teacher.digest if teacher else "",
            },
            **extra,
        }
        self.trials.append(write_trial(self.folder_of(trial), trial) | {"result": None})
        remote.push(self.folder_of(trial))
        return self.trials[-1]


def _is_complete(trial: Trial) -> bool:
    return trial["result"] is not None and trial["result"]["status"] == "COMPLETE"


def _value(costs: Numbers, metrics: Numbers, name: str) -> float:
    kind, _, rest = name.partition("/")
    return float(costs[rest] if kind == "cost" else metrics[name])
