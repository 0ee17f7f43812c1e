"""Step sizes that theory gives: what is known of a problem, and what a method makes of it."""

from dataclasses import dataclass, replace

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where a method is to be used.

    Attributes:
        constants: of the problem.
        dim: number of parameters.
        num_workers: how many there are.
        batch_size: examples a gradient; None for all of a worker's.
        num_samples: examples of the worker that has least; None where unknown.
        layer_sizes: entries of every layer; empty where unknown.
        layer_shapes: shape of every layer; empty where unknown.
    """

    constants: Constants
    dim: int
    num_workers: int
    batch_size: int | None = None
    num_samples: int | None = None
    layer_sizes: tuple[int, ...] = ()
    layer_shapes: tuple[tuple[int, ...], ...] = ()

    def omega(self, compressor: Compressor) -> float:
        """Return the variance bound of an unbiased compressor here.

        Raises:
            ValueError: no bound is known.
        """
        omega = self._bound(compressor).omega(self.dim)
        if omega is None:
            raise ValueError(f"no omega is known of {compressor}: give a step size")
        return omega

    def alpha(self, compressor: Compressor) -> float:
        """Return the contraction of a compressor here.

        Raises:
            ValueError: none is known.
        """
        alpha = self._bound(compressor).alpha(self.dim)
        if alpha is None:
            raise ValueError(f"no alpha is known of {compressor}: give a step size")
        return alpha

    def _bound(self, compressor: Compressor) -> Compressor:
        context = Context(
            generator_for(0),
            num_workers=self.num_workers,
            layer_sizes=self.layer_sizes,
            layer_shapes=self.layer_shapes,
        )
        return bound(compressor, context)


@dataclass(frozen=True, slots=True)
class StepSize:
    """A step size from theory: its value, its formula, and what it is good for."""

    value: float
    formula: str
    guarantee: str


def bound_anywhere(compressor: Compressor, context: Context) -> Compressor:
    """Return a compressor whose constants are those of every worker, also on the server."""
    return bound(compressor, replace(context, worker_id=max(0, context.worker_id)))


def omega_in(compressor: Compressor, context: Context, dim: int) -> float:
    """Return the variance bound of an unbiased compressor where it is used.

    Args:
        compressor: an unbiased one, as configured.
        context: a worker's, or the server's: the bound is the same.
        dim: length of the vectors.

    Raises:
        ValueError: no bound is known.
    """
    omega = bound_anywhere(compressor, context).omega(dim)
    if omega is None:
        raise ValueError(
            f"compressor is {compressor}: no omega is known of it, from which theory would set the "
            "parameters of the method; give numbers for those that are left out"
        )
    return omega
