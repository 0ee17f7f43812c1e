"""Finite sums of quadratics in float64, whose batches are tensors of indices."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Generator, Tensor

from mlmc_ray.methods import Method
from mlmc_ray.methods.theory import Setting
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.driver import Run


@dataclass
class FiniteSumOracle:
    """The mean of f_j(x) = x'A_j x/2 - b_j'x over a worker's m functions, or over a batch.

    Attributes:
        matrices: shape (m, d, d).
        vectors: shape (m, d).
        batch_size: of ``sample``; None for all functions.
        generator: of the batches.
        drawn: the batches, in order, those of all functions too.
    """

    matrices: Tensor
    vectors: Tensor
    batch_size: int | None
    generator: Generator
    drawn: list[Tensor] = field(default_factory=list)

    def sample(self, size: int | None = None) -> Tensor:
        size = size or self.batch_size
        if size is None:
            return self.full()
        self.drawn.append(torch.randint(len(self.vectors), (size,), generator=self.generator))
        return self.drawn[-1]

    def full(self) -> Tensor:
        self.drawn.append(torch.arange(len(self.vectors)))
        return self.drawn[-1]

    def gradient(self, at: Tensor, batch: Tensor) -> Tensor:
        return (self.matrices[batch] @ at - self.vectors[batch]).mean(dim=0)


@dataclass(frozen=True)
class FiniteSums:
    """Every worker holds m quadratics with eigenvalues between 1 and 3, and b_ij about 1."""

    num_workers: int = 4
    num_functions: int = 6
    dim: int = 8
    interpolation: bool = False

    @cached_property
    def coefficients(self) -> tuple[Tensor, Tensor]:
        """A, shape (M, m, d, d), and b, shape (M, m, d)."""
        draws = generator_for(7, "finite sums")
        shape = (self.num_workers, self.num_functions, self.dim)
        normal = torch.randn(*shape, self.dim, dtype=torch.float64, generator=draws)
        basis = torch.linalg.qr(normal).Q
        spectrum = 1 + 2 * torch.rand(*shape, 1, dtype=torch.float64, generator=draws)
        matrices = basis @ (spectrum * basis.mT)
        vectors = torch.randn(shape, dtype=torch.float64, generator=draws)
        if self.interpolation:
            return matrices, matrices @ vectors[0, 0]
        return matrices, vectors

    @property
    def optimum(self) -> Tensor:
        matrices, vectors = self.coefficients
        optimum: Tensor = torch.linalg.solve(matrices.mean(dim=(0, 1)), vectors.mean(dim=(0, 1)))
        return optimum

    def oracles(self, batch_size: int | None, seed: int = 0) -> list[FiniteSumOracle]:
        pairs = enumerate(zip(*self.coefficients, strict=True))
        return [FiniteSumOracle(a, b, batch_size, generator_for(seed, i)) for i, (a, b) in pairs]

    def setting(self, batch_size: int | None) -> Setting:
        matrices, _ = self.coefficients
        hessians = matrices.mean(dim=1)
        spectrum = torch.linalg.eigvalsh(hessians.mean(dim=0))
        of_workers = torch.linalg.eigvalsh(hessians)[:, -1]
        of_examples = torch.linalg.eigvalsh(matrices)[..., -1].amax(dim=1)
        constants = Constants(
            smoothness=float(spectrum[-1]),
            mean_smoothness=float(of_workers.square().mean().sqrt()),
            largest_smoothness=float(of_workers.max()),
            strong_convexity=float(spectrum[0]),
            sample_smoothness=float(of_examples.square().mean().sqrt()),
        )
        return Setting(
            constants=constants, dim=self.dim, num_workers=self.num_workers, batch_size=batch_size
        )


def setting_of(problem: Quadratic) -> Setting:
    number = problem.num_functions
    return Setting(constants=problem.constants(number), dim=problem.dim, num_workers=number)


def resumed(run: Run, method: Method, oracles: list[FiniteSumOracle], step_size: float) -> Run:
    """Return a new run that goes on where ``run`` is, from saved states.

    Args:
        run: of ``method``, on oracles like these.
        method: that of the run.
        oracles: others, whose draws are made to go on too.
        step_size: that of the run.
    """
    twin = Run(method, oracles, run.x, step_size)
    twin.round_index = run.round_index
    twin.server.load_state_dict(run.server.state_dict())
    for worker, other in zip(run.workers, twin.workers, strict=True):
        other.load_state_dict(worker.state_dict())
    for oracle, other_oracle in zip(run._oracles, oracles, strict=True):
        other_oracle.generator.set_state(oracle.generator.get_state())
    return twin
