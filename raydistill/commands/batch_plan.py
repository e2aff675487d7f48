"""The sweeps of a batch: which there are, whether they can run, and whether they are finished."""

import dataclasses
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from raydistill import plugins
from raydistill.config.batch import Batch, Entry, Method
from raydistill.config.paths import nearest, validated
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, InputError, StoreError
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan
from raydistill.records import remote, store
from raydistill.records.trials import read_trials

_OWN = ("space", "data", "store", "name", "resume", "plan", "seed", "set", "mlflow", "experiment")
"""Options of a sweep that the batch itself gives."""
FINISHED = "finished"
"""State of a sweep that has nothing left to do."""


class Sweep(NamedTuple):
    """One sweep of a batch."""

    entry: Entry
    """Its space, method and seed."""
    plan: Plan

    @property
    def name(self) -> str:
        """Name of the sweep: that of the batch, the space, the method and the seed."""
        assert self.plan.options.name is not None
        return self.plan.options.name

    @property
    def folder(self) -> Path:
        """The sweep's folder, which need not exist yet."""
        return self.plan.store / "sweeps" / self.name


def is_finished(each: Sweep) -> bool:
    """Whether a resume would find nothing to do: every trial has a result, and the tables are written."""
    if not (each.folder / "trials.parquet").exists():
        return False
    has_results = all(trial.result is not None for trial in read_trials(each.folder))
    return has_results and num_searched(each) >= each.plan.options.trials


def num_searched(each: Sweep) -> int:
    """Searched trials of a sweep so far."""
    if not each.folder.exists():
        return 0
    return sum(trial.role == "search" for trial in read_trials(each.folder))


def check_all(batch: Batch, resume: bool) -> list[Sweep]:
    """The sweeps of a batch with their plans, in the batch's order.

    Raises:
        ConfigError: with everything that is wrong in any of them.
        StoreError: see `_check_folders`.
    """
    problems: dict[str, list[str]] = {}
    plans: dict[tuple[str, str], Plan] = {}
    for space, method in product(batch.spaces, batch.methods):
        try:
            plans[space, method.name] = check(_options(batch, space, method))
        except InputError as error:
            problems.setdefault(str(error), []).append(f"{Path(space).stem}-{method.name}")
    if problems:
        messages = [f"{', '.join(where)}: {what}" for what, where in problems.items()]
        raise ConfigError(f"batch {batch.name}: {len(messages)} things to correct:\n" + "\n".join(messages))
    _require_different(batch, plans)
    sweeps = []
    for entry in batch.sweeps():
        plan = plans[entry.space, entry.method.name]
        name = f"{batch.name}-{entry.label}"
        store.require_name(name)
        exists = (plan.store / "sweeps" / name).exists()
        options = plan.options.model_copy(update={"seed": entry.seed, "name": name, "resume": exists})
        sweeps.append(Sweep(entry, dataclasses.replace(plan, options=options)))
    _check_folders(batch, sweeps, resume)
    return sweeps


def _options(batch: Batch, space: str, method: Method) -> SweepOptions:
    """The options that `raydistill sweep` would get. The seed, which no check depends on, is set later."""
    allowed = [name for name in SweepOptions.model_fields if name not in _OWN]
    for where, given in (("options", batch.options), (f"method {method.name}: options", method.options)):
        for name in given:
            if name not in allowed:
                why = f"there is no such option. Nearest: {nearest(name, allowed)!r}"
                if name in _OWN:
                    why = "the batch gives it itself"
                raise ConfigError(f"{where}: {name!r}: {why}. Known: {', '.join(allowed)}")
    assignments = tuple(f"{path}={json.dumps(value)}" for path, value in (batch.set | method.set).items())
    own = {"space": space, "data": batch.data.get(space), "store": batch.store, "set": assignments}
    own |= {"mlflow": batch.mlflow, "experiment": batch.experiment}
    return validated(SweepOptions, batch.options | method.options | own, where="options")


def _require_different(batch: Batch, plans: dict[tuple[str, str], Plan]) -> None:
    """Raises ConfigError where two methods would train the same."""
    methods: dict[tuple[Any, ...], str] = {}
    for (space, method), plan in plans.items():
        options = plan.options.model_copy(update={"config": None, "set": ()})
        key = (space, plan.space.model_dump_json(), plan.experiment.model_dump_json(), options)
        if key in methods:
            raise ConfigError(
                f"batch {batch.name}: methods {methods[key]} and {method} are the same on space {space}; "
                "remove one"
            )
        methods[key] = method


def _check_folders(batch: Batch, sweeps: Sequence[Sweep], resume: bool) -> None:
    """Raises StoreError where --resume is given and there is no such batch, or is not given and there is one.

    It also raises one where a sweep that exists has other settings.
    """
    root = sweeps[0].plan.store
    folder = root / "batches" / batch.name
    remote.pull(folder)
    if resume and not folder.exists():
        raise StoreError(
            f"--resume: there is no batch {batch.name} in {root / 'batches'}; leave --resume out to start it"
        )
    for path in (folder, *(each.folder for each in sweeps)):
        if path.exists() and not resume:
            raise StoreError(
                f"batch {batch.name}: {path} exists; "
                "add --resume to go on with it, or give the batch another name"
            )
    problems = []
    for each in sweeps:
        remote.pull(each.folder)
        if each.folder.exists():
            try:
                store.find_sweep(root, each.name, each.plan.definition, plugins.sweep_record())
            except StoreError as error:
                problems.append(str(error))
    if problems:
        raise StoreError(f"batch {batch.name}: {len(problems)} sweeps to correct:\n" + "\n".join(problems))
