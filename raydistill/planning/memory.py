"""Prediction of the memory that a worker needs, before anything is trained.

The prediction counts live tensor bytes at the worst moment of a minibatch or of an evaluation. They come
from networks on the meta device (`rehearsal`), so nothing is allocated.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.bases import NoBase, PlainBase
from raydistill.config.features import FeatureNetworkConfig
from raydistill.config.paths import leaves
from raydistill.config.scoring import Scoring
from raydistill.config.training import DistillTraining, StudentTraining
from raydistill.config.variants import PLUGIN_DIGESTS
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, cost, networks
from raydistill.planning import rehearsal
from raydistill.planning.scorer_memory import scorer_memory

_TRAINED_BYTES = 16
"""Bytes for each parameter that learns: weight, gradient and Adam's two moments, float32."""
_STORED_BYTES = 4
"""Bytes for each parameter that does not: of averages, eval network, evaluator and teacher."""
_OVERHEAD = 1.6
"""Peak memory over live tensor bytes: workspaces, and what the allocator loses.

Measured on a CPU, see docs/results/machines.md.
"""
CONTEXT_BYTES = 600 * 2**20
"""On a GPU, for a CUDA context with the workspaces of its libraries: an allowance, which was not measured."""
PROCESS_BYTES = 760 * 2**20
"""On a CPU, for a Ray actor that has trained before, without the bytes that are predicted.

Measured (docs/results/time-and-memory.md): 534 MiB are resident after its imports, 650 at the peak of its
first training, and up to 760 once thirty trainings have left their fragments, where it stays.
"""


class MemorySetup(NamedTuple):
    """What decides about a training's memory, beside its own config."""

    evaluator: EvaluatorNetwork
    info: DataInfo
    teacher: Generator
    num_workers: int = 1
    """How many workers share the batch."""
    scoring: Scoring | None = None
    """What scores beside the evaluator."""
    features: FeatureNetworkConfig | None = rehearsal.STAND_IN
    """What losses compare features by, where they do; None: VGG16."""
    outputs_fit: bool = True
    """Whether the teacher's outputs are stored where they can be; else it runs in every minibatch."""


def training_bytes(training: StudentTraining, setup: MemorySetup) -> int:
    """Peak bytes of one worker on its GPU: `states_and_tensors` plus `CONTEXT_BYTES`."""
    return states_and_tensors(training, setup) + CONTEXT_BYTES


def states_and_tensors(training: StudentTraining, setup: MemorySetup) -> int:
    """The part of `training_bytes` that the networks and the batch decide: states, and what lives
    at the worst moment.
    """
    params = cost.params(networks.layers(training.generator, setup.info))
    return _total(training, params, _rehearsed(training, setup))


def in_process(on_gpu: int) -> int:
    """The bytes of one worker on a CPU, where its whole process counts in place of a CUDA context.

    Args:
        on_gpu: what `training_bytes` gives.
    """
    return on_gpu + PROCESS_BYTES - CONTEXT_BYTES


class Predictor:
    """`training_bytes` of students: the same numbers, but thousands in a second where only widths differ.

    In most families, what lives after each operation is affine in every width. So it is rehearsed once,
    and once more for each width, and is then known for all widths. Where one more rehearsal disagrees,
    every prediction is rehearsed.
    """

    def __init__(self, setup: MemorySetup):
        self.setup = setup
        self.known: dict[Any, _Bytes] = {}
        """`_key` of a training whose widths cannot be varied -> its bytes."""
        self.affine: dict[Any, tuple[_Bytes, NDArray[np.int64]] | None] = {}
        """`_key` of a training whose widths are all 1 -> bytes at width 0 and their slopes.

        The slopes have a row for each width. None: the bytes are not affine in the widths.
        """

    def __call__(self, training: DistillTraining) -> int:
        """Peak bytes of one worker on its GPU."""
        params = cost.params(networks.layers(training.generator, self.setup.info))
        return _total(training, params, self._bytes(training)) + CONTEXT_BYTES

    def _bytes(self, training: DistillTraining) -> "_Bytes":
        """The same as `_rehearsed` gives."""
        generator = training.generator
        if GENERATORS[generator.family].takes == "noise":  # eighths of widths, and widths that are None
            return self._once(training)
        widths = {name: getattr(generator.widths, name) for name in type(generator.widths).model_fields}
        narrow = _narrowest(training)
        if (key := _key(narrow)) not in self.affine:
            self.affine[key] = self._fit(narrow)
        if (fit := self.affine[key]) is None:
            return self._once(training)
        at_zero, slopes = fit
        rise = (np.array(list(widths.values())) @ slopes).astype(np.int64)
        return at_zero._replace(history=at_zero.history + rise)

    def _once(self, training: DistillTraining) -> "_Bytes":
        """`_rehearsed`, once for each `_key`."""
        if (key := _key(training)) not in self.known:
            self.known[key] = _rehearsed(training, self.setup)
        return self.known[key]

    def _fit(self, narrow: DistillTraining) -> tuple["_Bytes", NDArray[np.int64]] | None:
        """The bytes at width 0 and their slopes, (widths, operations), of a training whose widths are all 1.

        None: the bytes are not affine in the widths.
        """
        names = list(type(narrow.generator.widths).model_fields)

        def rehearsed(widths: dict[str, int]) -> _Bytes:
            return _rehearsed(_with_widths(narrow, widths), self.setup)

        base = rehearsed(dict.fromkeys(names, 1))
        rows = [rehearsed({name: 2 if name == raised else 1 for name in names}) for raised in names]
        last = rehearsed(dict.fromkeys(names, 5))
        if any(each[1:] != base[1:] or len(each.history) != len(base.history) for each in (*rows, last)):
            return None
        slopes = np.array([row.history for row in rows]) - base.history
        offset = base.history - slopes.sum(axis=0)
        is_affine = (last.history == offset + 5 * slopes.sum(axis=0)).all()
        return (base._replace(history=offset), slopes) if is_affine else None


def _narrowest(training: DistillTraining) -> DistillTraining:
    """The training with a generator whose widths are all 1."""
    return _with_widths(training, dict.fromkeys(type(training.generator.widths).model_fields, 1))


def _with_widths(training: DistillTraining, widths: dict[str, int]) -> DistillTraining:
    """The training with a generator of these widths; nothing is validated."""
    generator = training.generator
    of_generator = {"widths": generator.widths.model_copy(update=widths)}
    return training.model_copy(update={"generator": generator.model_copy(update=of_generator)})


_COUNTED: dict[tuple[Any, str, bool], rehearsal.Beside] = {}
_COUNTED_AT_MOST = 1_000


def beside(training: StudentTraining, info: DataInfo, reads: bool = False) -> rehearsal.Beside:
    """What `rehearsal.beside` gives, counted once where it is the same, because that takes a second where the
    networks of a base are large, and a plan asks several times."""
    of_training: Any = training
    if isinstance(training, DistillTraining):
        is_plain = isinstance(training.base, NoBase | PlainBase)
        # of another base, adaptors are as wide as the student
        of_training = _key(_narrowest(training) if is_plain else training)
    key = of_training, info.model_dump_json(), reads
    if key not in _COUNTED:
        if len(_COUNTED) >= _COUNTED_AT_MOST:
            _COUNTED.clear()
        _COUNTED[key] = rehearsal.beside(training, info, reads)
    return _COUNTED[key]


def _key(training: DistillTraining) -> tuple[tuple[str, Any], ...]:
    """What decides about a training's memory: two of the same key need the same.

    Seeds and lengths decide nothing. Of the package's own options that are real numbers, only whether they
    are 0 does; those of plug-ins may mean anything.
    """
    same = {"seed": 0, "budget_nimg": 1, "report_every_nimg": 1}
    options = leaves(training.model_copy(update=same))
    sections = [*training.terms.values(), training.base, training.generator]
    if {type(section) for section in sections} & {*PLUGIN_DIGESTS}:
        return tuple(options.items())
    return tuple((path, value != 0 if isinstance(value, float) else value) for path, value in options.items())


class _Bytes(NamedTuple):
    """Bytes of a training on one worker, but for the states of its generator."""

    history: NDArray[np.int64]
    """What lives after each tensor that is made or gone: in a minibatch, then in an evaluation."""
    states: int
    """Of all other networks, optimizers, pools and buffers."""
    images: int
    """Of the minibatch's inputs, targets and stored pictures of the teacher."""
    evaluator: int
    """The most that live while the evaluator, or another scorer, sees the pictures of an evaluation."""


def _rehearsed(training: StudentTraining, setup: MemorySetup) -> _Bytes:
    info, batch = setup.info, _worker_batch_size(training, setup)
    teacher = setup.teacher if isinstance(training, DistillTraining) else None
    minibatch = rehearsal.minibatch(training, info, batch, teacher, setup.features, setup.outputs_fit)
    number = rehearsal.evaluation_batch_size(training.generator, info, setup.num_workers)
    evaluation = rehearsal.evaluation_history(training.generator, info, number)
    params, seen = rehearsal.evaluator_bytes(setup.evaluator, info, number)
    files = () if setup.scoring is None else setup.scoring.files
    scorers = scorer_memory(files, info.height, info.width, number)
    states = scorers.resting + _TRAINED_BYTES * minibatch.beside.learning + minibatch.beside.resting
    states += _STORED_BYTES * params + rehearsal.features_bytes(training, setup.features)
    if isinstance(training, DistillTraining) and rehearsal.runs_in_loop(
        training, setup.teacher, info, setup.outputs_fit
    ):
        states += _STORED_BYTES * cost.params(networks.layers(setup.teacher, info))
    return _Bytes(
        np.concatenate([minibatch.history, evaluation]), states, minibatch.images, max(seen, scorers.live)
    )


def _total(training: StudentTraining, params: int, needed: _Bytes) -> int:
    """States and live tensors; `params`: the number of the generator's parameters."""
    per_param = _TRAINED_BYTES + _STORED_BYTES + (_STORED_BYTES if training.ema_nimg else 0)
    live = max(int(needed.history.max()), needed.evaluator) + needed.images
    return needed.states + per_param * params + int(_OVERHEAD * live)


def _worker_batch_size(training: StudentTraining, setup: MemorySetup) -> int:
    """How many images of a minibatch one worker has, at most."""
    return -(-training.batch_size // setup.num_workers)
