"""Generators as models in MLflow: ONNX files with signature, example, requirements and model card.

Who loads one needs MLflow, ONNX Runtime and NumPy, and nothing of this package. As in `sweep.tracking`,
everything waits for the tracking store, and raises what MLflow raises.
"""

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from raydistill.errors import ConfigError, StoreError
from raydistill.exchange.export import FORMATS, model_card, require_onnx, write_checked
from raydistill.exchange.generator_file import inputs_for, open_generator
from raydistill.records.trials import Trial
from raydistill.sweep.tracking_parts import NOTE

TAG = "raydistill.model_id"
"""Tag of a trial's run: the id of its model in MLflow."""
CARD = "README.md"
"""Name of the card among a model's files."""
_MOST_CHARACTERS = 5000
"""Of a description in MLflow."""
_FILE = "model.onnx"
"""What MLflow calls the ONNX file among them."""
_BASELINES = ("teacher", "uniform", "no_teacher")
_REQUIREMENTS = (f"mlflow>={mlflow.__version__}", "numpy", "onnxruntime>=1.18")


def can_write() -> bool:
    """Whether what writes models is installed."""
    try:
        require_onnx()
    except ConfigError:
        return False
    return True


def is_wanted(trial: Trial, is_member: bool) -> bool:
    """Whether the end of a sweep logs the model of a trial: of a member of the front, or a baseline."""
    return trial.is_complete and (is_member or trial.role in _BASELINES)


def log(client: MlflowClient, experiment_id: str, run_id: str, trial: Trial, folder: Path, sweep: str) -> str:
    """Makes the model of a trial and links it to its run.

    Args:
        client: of the tracking store.
        experiment_id: where the run is.
        run_id: the trial's.
        trial: which one; it is COMPLETE.
        folder: its folder, with its network.
        sweep: name of its sweep.

    Returns:
        the model's id.

    Raises:
        ConfigError: there is no network, or `raydistill[onnx]` is not installed.
        RunError: the ONNX file does not give PyTorch's outputs.
    """
    require_onnx()
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{sweep}-{trial.trial_id}")
    with tempfile.TemporaryDirectory(prefix="raydistill-model-") as temporary:
        unlogged = Path(temporary) / "model"
        digest = _save(folder, unlogged, run_id)
        page = _description((unlogged / CARD).read_text())
        tags = facts_of(trial) | {"raydistill.network": digest, NOTE: page}
        logged = client.create_logged_model(
            experiment_id, name=name, source_run_id=run_id, tags=tags, model_type="generator"
        )
        stated = Model.load(str(unlogged))
        stated.model_id = logged.model_id
        stated.save(str(unlogged / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(unlogged))
    client.finalize_logged_model(logged.model_id, "READY")
    assert trial.result is not None
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, trial.result.nimg)])
    client.set_tag(run_id, TAG, logged.model_id)
    return str(logged.model_id)


def _save(trial_folder: Path, folder: Path, run_id: str) -> str:
    """Writes a trial's network as a model of MLflow's into `folder`; returns the network's digest."""
    import mlflow.onnx  # onnx is an extra
    import onnx

    generator = open_generator(trial_folder)
    inputs, what = inputs_for(generator)
    file = folder.with_suffix(".onnx")
    difference = write_checked(generator, inputs, FORMATS["onnx"], file)
    card = model_card(generator, FORMATS["onnx"], _FILE, difference, what)
    number = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(number, (-1, *generator.input_shape))]),
        outputs=Schema([TensorSpec(number, (-1, *generator.output_shape), "picture")]),
    )
    with warnings.catch_warnings(action="ignore"):
        mlflow.onnx.save_model(
            onnx.load(str(file)),
            str(folder),
            mlflow_model=Model(run_id=run_id),
            signature=signature,
            input_example=inputs[:1].numpy(),
            pip_requirements=list(_REQUIREMENTS),
            metadata={"network": generator.digest},
            save_as_external_data=False,
        )
    (folder / CARD).write_text(card)
    return generator.digest


def renew_card(client: MlflowClient, model_id: str, trial_folder: Path, licence: str) -> str:
    """Writes a model's card again, with its licence and what was measured since.

    Args:
        client: of the tracking store.
        model_id: the model's.
        trial_folder: of the trial that it is of.
        licence: as the network's owner states it; empty: not stated.

    Returns:
        the card as the description of a page in MLflow.

    Raises:
        StoreError: the network in the folder is another one than the model's.
        ConfigError: there is no network, or `raydistill[onnx]` is not installed.
        RunError: the ONNX file does not give PyTorch's outputs.
    """
    require_onnx()
    generator = open_generator(trial_folder)
    logged = client.get_logged_model(model_id).tags.get("raydistill.network")
    if logged != generator.digest:
        raise StoreError(
            f"{trial_folder}: its network is {generator.digest}, and the model in MLflow is of {logged}; put "
            "back the network, or delete the model in MLflow and promote again"
        )
    inputs, what = inputs_for(generator)
    with tempfile.TemporaryDirectory(prefix="raydistill-card-") as folder:
        difference = write_checked(generator, inputs, FORMATS["onnx"], Path(folder) / _FILE)
        card = Path(folder) / CARD
        card.write_text(model_card(generator, FORMATS["onnx"], _FILE, difference, what, licence=licence))
        client.log_model_artifact(model_id, str(card))
        page = _description(card.read_text())
    client.set_logged_model_tags(model_id, {NOTE: page})
    return page


def _description(card: str) -> str:
    """The card as far as MLflow takes it; where it is longer a last line says where the rest is."""
    rest = f"\n\nThe rest is in the model's {CARD}.\n"
    return card if len(card) <= _MOST_CHARACTERS else card[: _MOST_CHARACTERS - len(rest)] + rest


def facts_of(trial: Trial) -> dict[str, str]:
    """What tags say of a trial's model: costs, scores with their counts, and where it comes from."""
    result = trial.result
    assert result is not None
    scores: Mapping[str, float] = {
        name: value for name, value in result.metrics.items() if name.startswith("val/")
    } | (result.test or {})
    counts = {
        "val": result.context.get("num_samples"),
        "test": (result.test_context or {}).get("num_samples"),
    }
    told = {
        name.replace("/", "."): f"{value:.6g} on {counts[name.partition('/')[0]]} pictures"
        for name, value in scores.items()
    }
    return {
        "raydistill.trial_id": trial.trial_id,
        "raydistill.trial_key": trial.trial_key,
        "raydistill.role": trial.role,
        "raydistill.macs": f"{trial.macs:.0f}",
        "raydistill.macs_convention": trial.macs_convention,
        "raydistill.git_revision": result.git_revision or "not known",
        **{f"raydistill.digest.{name}": str(value or "") for name, value in trial.digests.items()},
        **{f"raydistill.{name}": text for name, text in told.items()},
    }
