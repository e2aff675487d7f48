"""Configurations whose values are allowed each by itself, and refused together: they are never proposed."""

import json
from collections.abc import Iterator

from raydistill import models
from raydistill.config import configurations
from raydistill.config.configurations import Configuration
from raydistill.config.experiment import Experiment
from raydistill.config.paths import with_values
from raydistill.config.space import SearchSpace
from raydistill.config.space_checks import combinations
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.errors import ConfigError, SpaceError
from raydistill.models import networks, pruning
from raydistill.search.candidates import grid_configurations, random_configuration
from raydistill.seeds import numpy_stream
from raydistill.training import bases, terms

_PROBED, _COUNTED, _LISTED = 32, 1_000, 4_000
"""Random configurations that are asked about before a search, and that are counted where one was refused;
a space of no more than the last number is counted as a whole."""


class Refusals:
    """What the config, the teacher and the data say about configurations of a space."""

    def __init__(self, search_space: SearchSpace, experiment: Experiment, info: DataInfo):
        self.space, self.experiment, self.info = search_space, experiment, info
        self._of_shape: dict[str, str | None] = {}
        first = next((each for each in self._probes() if self.of(each) is not None), None)
        self.some = first is not None
        """Whether a configuration was refused, of the ends of all ranges, every option, and random ones."""
        self.example = "" if first is None else str(self.of(first))
        """Why the first of them was; "": none was."""

    def of(self, configuration: Configuration) -> str | None:
        """Why a configuration is refused; None: it is not."""
        values = configurations.values_of(self.space, configuration)
        own = {path.removeprefix("student."): value for path, value in values.items()}
        try:
            student = self.experiment.resolved(with_values(self.experiment.student, own, where="search"))
            teacher = self.experiment.teacher.generator
            if student.init != "random":
                pruning.require_score(teacher, student.init_score, "student.init_score")
            if student.init == "teacher":
                where = "student.init=teacher: student.generator"
                pruning.require_narrower(teacher, student.generator, where)
        except ConfigError as error:
            return str(error)
        return self._refusal_of_shape(student)

    def _refusal_of_shape(self, student: DistillTraining) -> str | None:
        """What data, base and terms say of a student, which no width and no number of a term decides."""
        generator = student.generator.model_dump(mode="json", exclude={"widths"})
        energies = [getattr(term, "energy", None) for term in student.active_terms.values()]
        parts = [generator, student.base.model_dump(mode="json"), student.batch_size]
        key = json.dumps([*parts, [each and each.model_dump() for each in energies]])
        if key not in self._of_shape:
            self._of_shape[key] = self._asked(student)
        return self._of_shape[key]

    def _asked(self, student: DistillTraining) -> str | None:
        size = networks.size_for(student.generator, self.info)
        try:
            models.check(student.generator, self.info.input_channels, *size, "student.generator")
            bases.check(student, self.info)
            terms.check_all(student, self.info.height, self.info.width)
        except ConfigError as error:
            return str(error)
        return None

    def _probes(self) -> Iterator[Configuration]:
        rng = numpy_stream(0, "search/refusals")
        yield from combinations(self.space)
        yield from (random_configuration(self.space, rng) for _ in range(_PROBED))

    def sentence(self) -> str | None:
        """How many configurations are refused, and why the first is; None: none is.

        Raises:
            SpaceError: all are.
        """
        if not self.some:
            return None
        rng = numpy_stream(0, "search/refused")
        grid = grid_configurations(self.space, rng)
        is_whole = 0 < len(grid) <= _LISTED
        drawn = grid if is_whole else [random_configuration(self.space, rng) for _ in range(_COUNTED)]
        number = sum(self.of(configuration) is not None for configuration in drawn)
        of_what = f"all {len(drawn):,}" if is_whole else f"{len(drawn):,} random"
        counted = f"{number:,} of {of_what} configurations"
        if number == len(drawn):
            raise SpaceError(f"{counted} of the space are refused, the first: {self.example}")
        return f"{counted} are refused, so the search never proposes them. The first: {self.example}"
