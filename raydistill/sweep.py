"""One sweep: data, judge and teacher, then the search over students by Ray Tune and Optuna, then the frontier.

The ledger (`trials/*/trial.json`, `result.json`) is the truth. Resume reads it: finished trials are kept, running ones go on from
their checkpoints under the same number, proposals continue from the told history. Ray's own snapshot is never read.
"""

import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import analysis
from raydistill import cost, frontier, place, results, search, space, store, trial, tuning
from raydistill.config import (
    DistillTraining,
    Job,
    Pix2pixTraining,
    ResnetGenerator,
    ResnetWidths,
    canonical,
    leaves,
    with_values,
)
from raydistill.evaluate import score_network
from raydistill.plan import Plan, SweepOptions, check
from raydistill.progress import Progress
from raydistill.track import Tracker, default_uri


def run(options: SweepOptions) -> int:
    """Runs or resumes a sweep; returns the exit code: 0, 1 where a trial failed to finish, 130 interrupted."""
    plan = check(options)
    folder = _open_sweep(plan)
    progress = Progress(plan.space.objectives)
    with store.locked(folder / "lock", what=f"sweep {folder.name}", wait=False):
        progress.say(f"sweep {folder.name} in {folder}; logs in {folder / 'trials'}/*/log.txt")
        tracker = Tracker(options.mlflow or default_uri(plan.store), options.experiment, plan.store / "mlartifacts")
        sweep = Sweep(plan, folder, tracker, progress)
        try:
            with _sigterm_interrupts():
                return sweep.run()
        except KeyboardInterrupt:
            progress.say(f"interrupted; finished trials are kept. Go on: the same command with --resume --name {folder.name}")
            return 130
        finally:
            tracker.close()
            place.stop_ray()


class Sweep:
    """A sweep at work: the trials so far, and what happens around them."""

    def __init__(self, plan: Plan, folder: Path, tracker: Tracker, progress: Progress):
        self.plan, self.folder, self.tracker, self.progress = plan, folder, tracker, progress
        self.trials: list[dict[str, Any]] = []
        """Every trial proposed, with its result or None, by number."""
        self.queue: list[dict[str, Any]] = []
        """Trials to run before new ones are proposed: interrupted ones and baselines."""

    def run(self) -> int:
        plan = self.plan
        run_id = store.read_sweep(self.folder).get("mlflow_run_id")
        tags = {"raydistill.space": plan.options.space, "raydistill.definition": plan.definition, "raydistill.data": plan.data.digest}
        params = {"space": plan.options.space, "preset": plan.space.preset, "trials": plan.options.trials, "seed": plan.options.seed}
        run_id = self.tracker.start_sweep(self.folder.name, tags, params, run_id)
        store.update_sweep(self.folder, mlflow_run_id=run_id)
        place.start_ray(dashboard=plan.options.executor == "train" or plan.options.workers_per_trial > 1)
        self.stages = self._stages()
        self._open_ledger()
        self._search()
        recheck = self._recheck()
        self._score_on_test()
        return self._report(recheck)

    # ---- before the search

    def _stages(self) -> trial.Stages:
        """Judge and teacher from the cache, or trained now by Ray Train."""
        plan, cache = self.plan, self.plan.store / "cache"
        with store.locked(cache / "lock", what="the teacher", wait=True):
            if not trial.stages_done(plan.experiment, plan.data, cache):
                self.progress.say(f"judge and teacher: training with {plan.options.teacher_workers} workers; logs in {cache}/*/*/log.txt")
                trial.train_stages_sharded(plan.experiment, plan.data, cache, plan.options.teacher_workers)
            stages = trial.train_stages(plan.experiment, plan.data, cache, lambda numbers: None)
        ceiling = (
            f"mIoU {stages.judge_result['metrics']['val/miou']:.4f} on real val pictures (the ceiling)"
            if plan.info.has_labels
            else "no labels"
        )
        self.progress.say(f"judge {stages.judge.digest}: {ceiling}, {stages.judge_result['wall_sec']:.0f} s of training")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in stages.teacher_result["metrics"].items() if name.startswith("val/"))
        self.progress.say(f"teacher {stages.teacher.digest}: {shown}, {stages.teacher_result['wall_sec']:.0f} s of training")
        return stages

    def _open_ledger(self) -> None:
        """Reads the trials there are, adds teacher and baselines where they are missing, and mirrors all that in MLflow."""
        self.trials = results.read_trials(self.folder)
        if not self.trials:
            self._add("teacher", "teacher", {}, self.plan.experiment.teacher)
            teacher_folder = Path(self.stages.teacher.path).parent
            for name in ("samples.png", "result.json"):
                shutil.copyfile(teacher_folder / name, self.folder_of(self.trials[0]) / name)
            self.trials[0]["result"] = self.stages.teacher_result
        planned = {record["label"] for record in self.trials}
        for label, role, params, training in self._baselines():
            if label not in planned:
                self._add(role, label, params, training)
        for record in self.trials:
            if record["trial_id"] not in self.tracker.run_ids:
                self.tracker.start_trial(record)
            if record["result"] is not None:
                self.tracker.end_trial(record["trial_id"], self.folder_of(record), record["result"])
        self.queue = [record for record in self.trials if record["result"] is None and record["role"] != "recheck"]

    def _baselines(self) -> list[tuple[str, str, dict[str, Any], DistillTraining | Pix2pixTraining]]:
        """Uniform widths by plain distillation, and the narrowest of them without a teacher."""
        student, teacher = self.plan.experiment.student, self.plan.experiment.teacher
        planned: list[tuple[str, str, dict[str, Any], DistillTraining | Pix2pixTraining]] = []
        for ngf in self.plan.space.uniform:
            generator = student.generator.model_copy(update={"widths": ResnetWidths.uniform(ngf)})
            training = student.model_copy(update={"generator": generator, "mi": student.mi.model_copy(update={"weight": 0.0})})
            planned.append((f"uniform {ngf}", "uniform", _width_params(generator) | {"student.mi.weight": 0.0}, training))
        ngf = min(self.plan.space.uniform)
        generator = student.generator.model_copy(update={"widths": ResnetWidths.uniform(ngf)})
        shared = {name: getattr(student, name) for name in ("batch_size", "budget_nimg", "report_every_nimg", "ema_nimg", "flip")}
        planned.append(
            (f"no teacher {ngf}", "no_teacher", _width_params(generator), teacher.model_copy(update={"generator": generator, **shared}))
        )
        return planned

    # ---- the search

    def folder_of(self, record: tuning.Trial) -> Path:
        return self.folder / "trials" / record["trial_id"]

    def _add(
        self, role: str, label: str, params: dict[str, Any], training: DistillTraining | Pix2pixTraining, **extra: Any
    ) -> dict[str, Any]:
        """A new trial in the ledger."""
        training = training.model_copy(update={"seed": self.plan.options.seed})
        teacher = self.stages.teacher if isinstance(training, DistillTraining) else None
        job = (
            self.stages.teacher_job
            if role == "teacher"
            else Job(training=training, data=self.plan.data, judge=self.stages.judge, teacher=teacher)
        )
        costs = self.plan.costs_of(training.generator)
        record = {
            "number": len(self.trials),
            "trial_id": f"{len(self.trials):04d}",
            "role": role,
            "label": label,
            "params": params,
            "widths": "-".join(str(width) for width in leaves(training.generator.widths).values()),
            "costs": {name.removeprefix("cost/"): value for name, value in costs.items()} | {"macs_convention": cost.MACS_CONVENTION},
            "trial_key": job.key,
            "seed": training.seed,
            "job": job.model_dump(mode="json"),
            "digests": {"data": job.data.digest, "evaluator": self.stages.judge.digest, "teacher": teacher.digest if teacher else ""},
            **extra,
        }
        self.trials.append(results.write_trial(self.folder_of(record), record) | {"result": None})
        return self.trials[-1]

    @property
    def searched(self) -> list[dict[str, Any]]:
        return [record for record in self.trials if record["role"] == "search"]

    def _search(self) -> None:
        options = self.plan.options
        placement = place.place(options.executor, options.workers_per_trial, options.max_concurrent)
        left = len(self.queue) + max(0, options.trials - len(self.searched))
        if left == 0:
            return
        how = "inline" if placement.inline else f"by Ray Train, {placement.workers_per_trial} workers a trial"
        self.progress.say(f"{left} trials to train, {placement.max_concurrent} at a time, {how}")
        shutil.rmtree(self.folder / "ray", ignore_errors=True)
        self.search_started, self.ended_now, self.to_end = time.monotonic(), 0, left
        tuning.run_trials(
            self._next_trial,
            lambda record, numbers: self.tracker.log_report(record["trial_id"], numbers),
            self._ended,
            folder_of=self.folder_of,
            num_trials=left,
            placement=placement,
            storage=self.folder / "ray",
        )

    def _next_trial(self) -> dict[str, Any] | None:
        if self.queue:
            record = self.queue.pop(0)
        elif len(self.searched) < self.plan.options.trials:
            record = self._propose()
        else:
            return None
        if record["trial_id"] not in self.tracker.run_ids:
            self.tracker.start_trial(record)
        return record

    def _propose(self) -> dict[str, Any]:
        history = []
        for record in self.searched:
            result = record["result"]
            state = "RUNNING" if result is None else result["status"]
            measured = [self._value(record, name) for name, _ in self.plan.objectives] if state == "COMPLETE" else None
            history.append(search.Told(record["picked"], state, measured))
        picked = search.propose(self.plan.problem, history, len(self.searched))
        values = space.values_of(self.plan.space, picked)
        training = with_values(self.plan.experiment, values, where="search").student
        term = f"MI {training.mi.weight:g}" if training.mi.weight else "no MI"
        return self._add("search", term, values, training, picked=picked)

    def _value(self, record: dict[str, Any], name: str) -> float:
        kind, _, rest = name.partition("/")
        return float(record["costs"][rest] if kind == "cost" else record["result"]["metrics"][name])

    def _ended(self, record: dict[str, Any]) -> None:
        """A trial ended: its result, or that it crashed, goes into the ledger and then everywhere else."""
        folder = self.folder_of(record)
        result = results.read_result(folder)
        if result is None:
            error = folder / "error.txt"
            reason = error.read_text().strip().splitlines()[-1] if error.exists() else "the worker process died (killed, or out of memory)"
            budget = record["job"]["training"]["budget_nimg"]
            result = trial.NOTHING_MEASURED | {
                "status": "FAIL",
                "reason": reason,
                "budget_nimg": budget,
                "hardware": "",
                "git_revision": "",
            }
            results.write_result(folder, result)
        record["result"] = result
        self.tracker.end_trial(record["trial_id"], folder, result)
        self.ended_now += 1
        elapsed = time.monotonic() - self.search_started
        left_sec = elapsed / self.ended_now * (self.to_end - self.ended_now)
        front = [other["trial_id"] for other in self._front()]
        done = sum(other["result"] is not None for other in self.trials if other["role"] != "teacher")
        self.progress.trial_ended(record, result, done, done + self.to_end - self.ended_now, front, left_sec)

    def _front(self) -> list[dict[str, Any]]:
        """Members of the front so far, over all trained students."""
        table = self._table()
        members = set(table["trial_id"][table["front.member"]])
        return [record for record in self.trials if record["trial_id"] in members]

    def _table(self) -> pd.DataFrame:
        table = results.trial_table(self.trials, sweep_id=self.folder.name)
        return results.with_front(table, self.plan.objectives, self.plan.reference)

    # ---- after the search

    def _recheck(self) -> dict[str, Any] | None:
        """One front member again, student and energy together, by a TorchTrainer of 2 workers."""
        known = next((record for record in self.trials if record["role"] == "recheck"), None)
        original = next((record for record in self.trials if known and record["trial_id"] == known["again"]), None) or self._to_recheck()
        if original is None:
            return None
        record = known or self._add_recheck(original)
        if record["result"] is None:
            self.progress.say(f"trial {original['trial_id']} ({original['label']}) again, by a TorchTrainer of 2 workers")
            if record["trial_id"] not in self.tracker.run_ids:
                self.tracker.start_trial(record)
            result = trial.perform_sharded(Job.model_validate(record["job"]), self.folder_of(record), 2)
            self.tracker.end_trial(record["trial_id"], self.folder_of(record), result)
            record["result"] = result
        return record

    def _to_recheck(self) -> dict[str, Any] | None:
        """A front member with the MI term; where the front has none, the best trial that has one; else any front member."""
        front = self._front()
        complete = [record for record in self.searched if record["result"] and record["result"]["status"] == "COMPLETE"]
        for candidates in (front, complete):
            with_mi = [record for record in candidates if record["params"].get("student.mi.weight")]
            if with_mi:
                name, direction = next(o for o in self.plan.objectives if not o[0].startswith("cost/"))
                return (max if direction == "max" else min)(with_mi, key=lambda record: self._value(record, name))
        return front[0] if front else None

    def _add_recheck(self, original: dict[str, Any]) -> dict[str, Any]:
        training = Job.model_validate(original["job"]).training
        assert isinstance(training, DistillTraining | Pix2pixTraining)
        label = f"{original['trial_id']} again, 2 workers"
        return self._add("recheck", label, original["params"], training, again=original["trial_id"])

    def _score_on_test(self) -> None:
        """The only reader of the test split: front members, baselines and teacher, once each."""
        members = {record["trial_id"] for record in self._front()}
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for record in self.trials:
            result = record["result"]
            if result is None or result["status"] != "COMPLETE" or "test" in result:
                continue
            if record["trial_id"] in members or record["role"] in ("teacher", "uniform", "no_teacher"):
                folder = Path(self.stages.teacher.path).parent if record["role"] == "teacher" else self.folder_of(record)
                result["test"], result["test_context"] = score_network(
                    trial.network_of(folder, result), self.plan.data, self.stages.judge, "test", device
                )
                results.write_result(self.folder_of(record), result)

    def _report(self, recheck: dict[str, Any] | None) -> int:
        """Tables, page, MLflow and the terminal: all from the ledger."""
        plan = self.plan
        table = self._table()
        evaluations = results.evaluation_table(self.trials, sweep_id=self.folder.name)
        results.write_tables(self.folder, table, evaluations)
        directions = [direction for _, direction in plan.objectives]
        volume = frontier.hypervolume(results.objective_points(table, plan.objectives), directions, plan.reference)
        ceiling = self.stages.judge_result["metrics"].get("val/miou")
        samples = {record["trial_id"]: path for record in self.trials if (path := self.folder_of(record) / "samples.png").exists()}
        facts = self._facts(volume)
        report = analysis.write_report(
            table,
            evaluations,
            self.folder,
            title=f"raydistill: {self.folder.name}",
            objectives=plan.objectives,
            reference=plan.reference,
            facts=facts,
            ceiling=ceiling,
            samples=samples,
        )
        for _, row in table.iterrows():
            self.tracker.log_front(row, next(record for record in self.trials if record["trial_id"] == row["trial_id"]))
        tables = [self.folder / name for name in ("trials.csv", "trials.parquet", "evaluations.parquet")]
        self.tracker.end_sweep({"front/hypervolume": volume, "front/num_members": int(table["front.member"].sum())}, [*report, *tables])
        self._print(table, recheck, report.html, facts)
        failed = [record for record in self.trials if record["result"] is None or record["result"]["status"] == "FAIL"]
        return 1 if failed and not table["front.member"].any() else 0

    def _facts(self, volume: float) -> dict[str, str]:
        stages, context = self.stages, self.stages.teacher_result["context"]
        return {
            "sweep": self.folder.name,
            "data": f"{self.plan.data.digest}: {self.plan.info.split_rule}",
            "judge": stages.judge.digest,
            "teacher": stages.teacher.digest,
            "reference point": ", ".join(
                f"{name} {value:g}" for (name, _), value in zip(self.plan.objectives, self.plan.reference, strict=True)
            ),
            "hypervolume": f"{volume:.6g}",
            "MACs convention": cost.MACS_CONVENTION,
            "val pictures": str(context["num_samples"]),
            "feature_width": str(context["num_features"]),
        }

    def _print(self, table: pd.DataFrame, recheck: dict[str, Any] | None, page: Path, facts: dict[str, str]) -> None:
        front = table[table["front.member"]].sort_values("cost.macs")
        self.progress.console.print()
        self.progress.table(f"frontier of {self.folder.name}: {len(front)} of {int(results.competitors(table).sum())} students", front)
        self.progress.table("baselines (* on the frontier)", table[table["role"].isin(["teacher", "no_teacher", "uniform"])])
        if recheck is not None:
            self.progress.table("inline and 2 workers", table[table["trial_id"].isin([recheck["again"], recheck["trial_id"]])])
        self.progress.table("other trials", table[(table["role"] == "search") & ~table["front.member"]])
        for record in self.trials:
            if record["result"] and record["result"]["status"] == "FAIL":
                self.progress.say(f"trial {record['trial_id']} ({record['label']}) failed: {record['result']['reason']}")
        self.progress.say(f"hypervolume {facts['hypervolume']} against the reference {facts['reference point']}")
        self.progress.say(f"page: {page}")
        self.progress.say(f"compare: mlflow ui --backend-store-uri {shlex.quote(self.tracker.uri)} --host 127.0.0.1 --port 5000")


def _width_params(generator: ResnetGenerator) -> dict[str, Any]:
    return {f"student.generator.widths.{name}": value for name, value in leaves(generator.widths).items()}


def _open_sweep(plan: Plan) -> Path:
    options = plan.options
    if options.resume:
        return store.find_sweep(plan.store, options.name, plan.definition)
    facts = {
        "definition": plan.definition,
        "space": canonical(plan.space),
        "experiment": canonical(plan.experiment),
        "data": plan.data.digest,
    }
    return store.create_sweep(plan.store, options.name, Path(options.space).stem, facts | {"seed": options.seed})


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, as a cluster's queue sends it, ends a sweep as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
