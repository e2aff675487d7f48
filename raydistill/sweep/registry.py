"""The model registry of MLflow: the model of one trial gets a name, a version and an alias.

Nothing is taken away: an earlier version stays, and the registered model says which version an alias meant
when.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from raydistill.errors import ConfigError, StoreError
from raydistill.records import store
from raydistill.records.trials import Trial
from raydistill.sweep import tracking_models, tracking_store

_MOST_KEPT = 40
"""Moves of an alias that are kept: a tag has 5,000 characters."""
_LICENCE = "raydistill.licence"
"""Tag of a version: its licence; there is none where none was stated."""
COMPARABLE = ("digest.data", "digest.evaluator", "macs_convention")
"""Models of one alias have these in common, else their scores cannot be compared."""


class Promoted(NamedTuple):
    """A version of a registered model, and what its alias meant before."""

    name: str
    version: str
    alias: str
    before: str | None
    """The version that had the alias; None: none had."""

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` takes."""
        return f"models:/{self.name}@{self.alias}"


def promote(
    uri: str,
    experiment: str,
    folder: Path,
    trial: Trial,
    trial_folder: Path,
    *,
    name: str,
    alias: str,
    licence: str = "",
    replace: bool = False,
) -> Promoted:
    """Registers the model of a trial, where it is not yet, and gives it the alias.

    Args:
        uri: tracking URI; the registry is there, too.
        experiment: name of the experiment that has the sweep.
        folder: the sweep's.
        trial: which one; it is COMPLETE.
        trial_folder: its own.
        name: of the registered model, which is made where it is missing.
        alias: what users load.
        licence: licence of the network, as its owner states it; empty: not stated.
        replace: whether the alias may leave a version of other data, evaluator or convention of MACs.

    Raises:
        ConfigError: the alias means a version that cannot be compared with this one.
        StoreError: MLflow has no run of the trial, or refuses.
    """
    tracking_store.quieten()
    client = MlflowClient(uri)
    try:
        run = _run_of(client, experiment, folder, trial)
        facts = tracking_models.facts_of(trial)
        registered = _registered(client, name)
        before = None if registered is None else registered.aliases.get(alias)
        if before is not None and not replace:
            _require_comparable(client, name, str(before), alias, facts)
        model_id = run.data.tags.get(tracking_models.TAG) or tracking_models.log(
            client, run.info.experiment_id, run.info.run_id, trial, trial_folder, folder.name
        )
        if registered is None:
            client.create_registered_model(name, tags={"raydistill": "generators"})
        version = _version_of(client, name, run, model_id, facts, licence, trial_folder)
        client.set_registered_model_alias(name, alias, version)
        _note_move(client, name, alias, version)
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"--name {name}: the registry refuses: {tracking_store.first_line(error)}"
        ) from error
    return Promoted(name, version, alias, None if before is None else str(before))


def _run_of(client: MlflowClient, experiment: str, folder: Path, trial: Trial) -> Any:
    """The trial's run. A sweep is found by its id: two may have one name."""
    sweep_id = store.read_sweep(folder)["sweep_id"]
    if (experiment_id := tracking_store.find_experiment(client, experiment)) is not None:
        same = f"tags.`raydistill.sweep_id` = '{sweep_id}'"
        for parent in client.search_runs([experiment_id], same, max_results=1):
            child = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
            its = f"{child} AND tags.`raydistill.trial_id` = '{trial.trial_id}'"
            for run in client.search_runs([experiment_id], its, max_results=1):
                return run
    raise StoreError(
        f"{folder}: MLflow has no run of trial {trial.trial_id} in the experiment {experiment}; "
        f"first: raydistill track {folder}"
    )


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _require_comparable(
    client: MlflowClient, name: str, version: str, alias: str, facts: Mapping[str, str]
) -> None:
    """Raises ConfigError where the version that has the alias is of other data, evaluator or convention."""
    tags = client.get_model_version(name, version).tags
    for key in (f"raydistill.{each}" for each in COMPARABLE):
        if tags.get(key) != facts.get(key):
            what = key.removeprefix("raydistill.")
            raise ConfigError(
                f"--alias {alias}: version {version} of {name} has it, whose {what} is "
                f"{tags.get(key) or 'not stated'}, and this model's is {facts.get(key)}: their scores cannot "
                "be compared. Give another --alias or --name, or --replace"
            )


def _version_of(
    client: MlflowClient,
    name: str,
    run: Any,
    model_id: str,
    facts: Mapping[str, str],
    licence: str,
    trial_folder: Path,
) -> str:
    """The version of the registered model that is this model; it is made where there is none.

    It gets these facts and the licence as tags, and a new model card as its description. A licence that was
    stated before stays where none is now.
    """
    versions = client.search_model_versions(f"name = '{name}'")
    had = next((each for each in versions if each.tags.get(tracking_models.TAG) == model_id), None)
    stated = licence or ("" if had is None else had.tags.get(_LICENCE, ""))
    card = tracking_models.renew_card(client, model_id, trial_folder, stated)
    tags = {**facts, tracking_models.TAG: model_id} | ({_LICENCE: stated} if stated else {})
    if had is not None:
        for key, value in tags.items():
            client.set_model_version_tag(name, had.version, key, value)
        client.update_model_version(name, had.version, description=card)
        return str(had.version)
    with _as_default(str(client.tracking_uri)):
        made = client.create_model_version(
            name,
            f"models:/{model_id}",
            run_id=run.info.run_id,
            tags=tags,
            description=card,
            model_id=model_id,
        )
    return str(made.version)


@contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """Inside, MLflow looks for a model in this tracking store, also where it is not told which one."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None takes it back; "" would be a folder


def _note_move(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Notes on the registered model which version the alias means from now on."""
    key = f"raydistill.history.{alias}"
    moves = json.loads(client.get_registered_model(name).tags.get(key, "[]"))
    moves.append([version, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")])
    client.set_registered_model_tag(name, key, json.dumps(moves[-_MOST_KEPT:]))
