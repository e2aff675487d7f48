"""A sweep as a study of Optuna's in a database, for its dashboard, its plots and `optuna.load_study`.

The ledger is the truth, and no search reads the study.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from raydistill.config.space import SearchSpace
from raydistill.errors import StoreError, without_passwords
from raydistill.records.trials import Trial
from raydistill.search.optuna_samplers import directions_of, to_optuna

_SWEEP = "sweep_id"
"""Attribute of a study: the id of its sweep."""


def name_of(sweep: str, sweep_id: str) -> str:
    """What a sweep's study is called: two sweeps may have one name."""
    return f"{sweep}-{sweep_id[:8]}"


def write_study(
    url: str, name: str, facts: dict[str, Any], space: SearchSpace, trials: Sequence[Trial]
) -> int:
    """Brings a study to what the ledger says of the trials that have ended; twice is as once.

    Optuna lets nobody change a trial that has ended. So where one is another now, the study is made anew.

    Args:
        url: of a database, as SQLAlchemy takes it.
        name: of the study.
        facts: attributes of the study, with the sweep's id as `sweep_id`.
        space: what was searched.
        trials: of the sweep. Those that were not proposed have no parameters, and a role that says why.

    Returns:
        how many trials were written; 0: the study had all.

    Raises:
        StoreError: the database cannot be used, or has a study of this name that is not of this sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wanted = [_trial_of(trial, space) for trial in trials if trial.result is not None]
    try:
        storage = RDBStorage(url)
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions_of(space), load_if_exists=True
        )
        had = study.get_trials(deepcopy=False)
        if (of := study.user_attrs.get(_SWEEP)) != facts[_SWEEP] and (of or had):
            raise StoreError(
                f"--study {without_passwords(url)}: its study {name} is not of this sweep; give another "
                "database"
            )
        if [*map(_content, had)] != [*map(_content, wanted[: len(had)])]:
            optuna.delete_study(study_name=name, storage=storage)
            study, had = (
                optuna.create_study(storage=storage, study_name=name, directions=directions_of(space)),
                [],
            )
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            study.set_metric_names([objective.name for objective in space.objectives])
        for key, value in facts.items():
            study.set_user_attr(key, value)
        study.add_trials(wanted[len(had) :])
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        why = without_passwords((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]
        raise StoreError(
            f"--study {without_passwords(url)}: cannot be used: {why}; give the address of a database, such "
            "as sqlite:///FILE"
        ) from None
    return len(wanted) - len(had)


def _trial_of(trial: Trial, space: SearchSpace) -> FrozenTrial:
    """A trial that has ended, as Optuna's."""
    result, values = trial.result, [_value(trial, objective.name) for objective in space.objectives]
    assert result is not None
    configuration = trial.configuration or {}
    attributes = {
        **{
            "trial_id": trial.trial_id,
            "trial_key": trial.trial_key,
            "role": trial.role,
            "label": trial.label,
        },
        **{"seed": trial.seed, "nimg": result.nimg, "wall_sec": result.wall_sec, "reason": result.reason},
        **{
            "costs": trial.costs,
            "digests": trial.digests,
            "test": result.test or {},
            "status": result.status,
        },
    }
    known = [value for value in values if value is not None]
    has_values = result.status == "COMPLETE" and len(known) == len(values)
    # to Optuna, what has no objective has failed; `status` says how it ended here
    state = TrialState.PRUNED if result.status == "PRUNED" else TrialState.FAIL
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if has_values else state,
        params=configuration,
        distributions={path: to_optuna(space.parameters[path]) for path in configuration},
        values=known if has_values else None,
        user_attrs=attributes,
    )


def _value(trial: Trial, name: str) -> float | None:
    """An objective; None: it was not measured, or is no number."""
    try:
        value = trial.value(name)
    except KeyError:
        return None
    return None if math.isnan(value) else value


def _content(trial: FrozenTrial) -> tuple[Any, ...]:
    """What of a trial may differ from the ledger's."""
    return trial.state, trial.values, trial.params, trial.user_attrs
