"""The whole model, for evaluation and for saving."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import Problem, explaining
from mlmc_ray.seeding import drawing, seed_for


class WholeModel:
    """The model that a server evaluates and saves; the first has it where there are several.

    Args:
        problem: with the measures.
        model: of the problem; its buffers are the server's.
        seed: of the run.
    """

    def __init__(self, problem: Problem, model: FlatModel, seed: int) -> None:
        self._problem = problem
        self.flat = model
        self._seed = seed

    def evaluate(self, round_index: int) -> dict[str, float]:
        """Evaluate with the problem's own measures.

        Raises:
            ProblemError: the problem's own code failed, or did not return named numbers.
        """
        self.flat.module.eval()
        seed = seed_for(self._seed, "evaluate", round_index)
        with explaining("evaluating"), drawing(seed):
            measures = self._problem.evaluate(self.flat.module)
            if not isinstance(measures, Mapping) or not measures:
                raise ValueError(
                    "evaluate returns named measures, such as {'accuracy': 0.9}, and this one "
                    f"returned {measures!r:.100}"
                )
            for name in measures:
                if not isinstance(name, str) or not 0 < len(name) <= 80 or not name.isprintable():
                    raise ValueError(f"{name!r:.100} is no name of a measure: give a short word")
            self.flat.check_parameters()
            return {name: float(value) for name, value in measures.items()}

    def state(self) -> dict[str, Any]:
        """Return a copy of the model's ``state_dict``, for saving."""
        return copy.deepcopy(self.flat.module.state_dict())

    def put(self, *spans: Tensor) -> None:
        """Take over the parameters of several servers, in their order."""
        torch.cat(spans, out=self.flat.parameters)
