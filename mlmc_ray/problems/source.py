"""Where a problem comes from: a dotted path and arguments, which every process loads for itself."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from mlmc_ray.errors import MlmcRayError, ProblemError, first_sentence, one_line
from mlmc_ray.flat import CPU, FlatModel
from mlmc_ray.importing import import_object
from mlmc_ray.own_code import own_place
from mlmc_ray.problems.base import Problem
from mlmc_ray.seeding import drawing, seed_for

_METHODS = ("model", "loss", "shard", "evaluate")


@dataclass(frozen=True, slots=True)
class ProblemSource:
    """A problem that has not been made yet; small, and the same for every process.

    Args:
        path: dotted path of a class or function, such as ``examples.breast_cancer.BreastCancer``.
        options: its keyword arguments.
        search_paths: directories to look in after Python's own.
    """

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    search_paths: tuple[str, ...] = ()

    def factory(self) -> Any:
        """Import and return what makes the problem.

        Raises:
            ProblemError: it cannot be imported, or there is nothing of that name.
        """
        return import_object(self.path, self.search_paths, "problem")

    def load(self) -> Problem:
        """Make the problem.

        Raises:
            ProblemError: it cannot be imported or made, or it lacks a method.
        """
        factory = self.factory()
        with explaining(f"making {self.path}({_arguments(self.options)})"):
            problem = self._made_by(factory)
        missing = [name for name in _METHODS if not callable(getattr(problem, name, None))]
        if missing:
            raise ProblemError(
                f"problem: {self.path} lacks {missing}; a problem has the methods {list(_METHODS)}"
            )
        loaded: Problem = problem
        return loaded

    def _made_by(self, factory: Any) -> Any:
        """Call what makes the problem; a value that this library refuses needs no place in code."""
        try:
            return factory(**self.options)
        except ValueError as error:
            if not self.path.startswith("mlmc_ray."):
                raise
            raise ProblemError(f"problem: {one_line(error)}") from error


def initial_model(problem: Problem, seed: int, device: torch.device = CPU) -> FlatModel:
    """Make a problem's model, with the same parameters in every process of a run.

    Args:
        problem: what is trained.
        seed: the run's seed.
        device: where to move the model, which is made on the CPU.

    Raises:
        ProblemError: the problem's own code failed, or the model cannot be trained.
    """
    with explaining("making the model"), drawing(seed_for(seed, "parameters")):
        return FlatModel(problem.model(), device)


@contextmanager
def explaining(doing: str, remedy: str | None = None) -> Iterator[None]:
    """Turn any exception of a problem's own code into a ``ProblemError`` that says where it was.

    Args:
        doing: what the code was asked for, as in "while ...".
        remedy: what to do, said before the first sentence of the exception instead of all of it.
    """
    try:
        yield
    except MlmcRayError:
        raise
    except (Exception, SystemExit) as error:
        kind, place = type(error).__name__, own_place(error)
        said = one_line(error) if remedy is None else f"{remedy}. It says: {first_sentence(error)}"
        raise ProblemError(f"problem: {kind} while {doing}: {said}{place}") from error


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
