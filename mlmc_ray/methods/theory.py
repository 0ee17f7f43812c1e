"""Step sizes that theory gives: what is known of a problem, and what a method makes of it."""

from dataclasses import dataclass, fields, is_dataclass, replace

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.kernels.partition import block_size
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where a method is to be used.

    Attributes:
        constants: of the problem.
        dim: number of parameters.
        num_workers: how many there are.
        batch_size: examples a gradient; None where gradients are exact, of all of a worker's
            examples or without noise.
        layer_sizes: entries of every layer; empty where unknown.
        layer_shapes: shape of every layer; empty where unknown.
        largest_age: steps that an asynchronous server takes, a step for every report, while a
            worker is at work, at most; infinity where there is no bound, None where unknown.
    """

    constants: Constants
    dim: int
    num_workers: int
    batch_size: int | None = None
    layer_sizes: tuple[int, ...] = ()
    layer_shapes: tuple[tuple[int, ...], ...] = ()
    largest_age: float | None = None

    def omega(self, compressor: Compressor) -> float:
        """Return the variance bound of an unbiased compressor here.

        Raises:
            ValueError: no bound is known.
        """
        omega = self._bound(compressor).omega(self.dim)
        if omega is None:
            raise ValueError(f"no omega is known of {compressor}: give a step size")
        return omega

    def joint_omega(self, compressor: Compressor) -> float:
        """Return what stands for omega in a term omega / M, the noise of the workers' average.

        It is omega M / N, with the N of ``effective_workers``: omega for independent draws.

        Raises:
            ValueError: no bound is known.
        """
        omega, workers = self.omega(compressor), self.num_workers
        return omega * (workers / effective_workers(compressor, workers, self.dim))

    def alpha(self, compressor: Compressor) -> float:
        """Return the contraction of a compressor here.

        Raises:
            ValueError: none is known.
        """
        alpha = self._bound(compressor).alpha(self.dim)
        if alpha is None:
            raise ValueError(f"no alpha is known of {compressor}: give a step size")
        return alpha

    def require_convex(self, method: str) -> None:
        """Refuse functions of which one is known not to be convex.

        Args:
            method: its name, for the error.

        Raises:
            ValueError: one is not.
        """
        if self.constants.convex is False:
            raise ValueError(
                f"the theory of {method} is for workers' functions that are all convex, and here "
                "one is not: give numbers, or a method for non-convex functions, such as marina"
            )

    def _bound(self, compressor: Compressor) -> Compressor:
        context = Context(
            generator_for(0),
            num_workers=self.num_workers,
            layer_sizes=self.layer_sizes,
            layer_shapes=self.layer_shapes,
        )
        return bound(compressor, context)


ON_BATCHES = "with batches as configured"
"""What the guarantee of a method says whose theory is for the batches of the setting."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """A step size from theory.

    Attributes:
        value: the number.
        formula: of the number.
        guarantee: what it is good for.
        values: of the constants in the formula, such as "L = 4, mu = 0.8"; "" where not told.
    """

    value: float
    formula: str
    guarantee: str
    values: str = ""


def for_full_gradients(step: StepSize, setting: Setting) -> StepSize:
    """Return a step size whose guarantee says that gradients are full, and what batches change.

    The noise of minibatches adds a bounded term to what shrinks in a round, and so a floor.

    Args:
        step: with a guarantee for full gradients, of a method that takes minibatches too.
        setting: where.
    """
    guarantee = f"{step.guarantee}, with full gradients"
    if setting.batch_size is not None:
        guarantee += "; with minibatches, as here, to a floor that their noise leaves"
    return replace(step, guarantee=guarantee)


def on_full_gradients(step: StepSize) -> StepSize:
    """Return a step size whose guarantee says that the method takes full gradients anywhere."""
    guarantee = f"{step.guarantee}, with full gradients, which it takes whatever the batch size"
    return replace(step, guarantee=guarantee)


def bound_anywhere(compressor: Compressor, context: Context) -> Compressor:
    """Return a compressor whose constants are those of every worker, also on the server."""
    return bound(compressor, replace(context, worker_id=max(0, context.worker_id)))


def omega_in(compressor: Compressor, context: Context, dim: int, key: str = "compressor") -> float:
    """Return the variance bound of an unbiased compressor where it is used.

    Args:
        compressor: an unbiased one, as configured.
        context: a worker's, or the server's: the bound is the same.
        dim: length of the vectors.
        key: of the setting that holds the compressor.

    Raises:
        ValueError: no bound is known.
    """
    omega = bound_anywhere(compressor, context).omega(dim)
    if omega is None:
        raise ValueError(
            f"{key} is {compressor}: no omega is known of it, from which theory would set the "
            "parameters of the method; give numbers for those that are left out"
        )
    return omega


def shares_out(value: object) -> bool:
    """Return whether a compressor is PermK or holds it, so that workers depend on each other."""
    if isinstance(value, PermK):
        return True
    if isinstance(value, tuple):
        return any(shares_out(part) for part in value)
    if not is_dataclass(value):
        return False
    return any(shares_out(getattr(value, field.name)) for field in fields(value))


def effective_workers(compressor: Compressor, num_workers: int, dim: int) -> float:
    """Return N with E|mean(C_i(a_i) - a_i)|^2 <= (omega / N) mean|a_i|^2.

    So N is how many workers that draw independently would average the noise as well: M where they
    do so; M - 1 with PermK where d >= M or d divides M, since what one sends the others do not. Of
    a compressor that holds PermK nothing is assumed: N = 1.

    Args:
        compressor: unbiased; as configured or bound.
        num_workers: M.
        dim: d.
    """
    if not isinstance(compressor, PermK):
        return 1 if shares_out(compressor) else num_workers
    if num_workers == 1:
        return 1
    return PermK(num_workers=num_workers).omega(dim) / _permuted_variance(num_workers, dim)


def averaging_in_words(compressor: Compressor) -> str:
    """Return what a formula in M is to add where ``effective_workers`` is not M."""
    if isinstance(compressor, PermK):
        return ", M - 1 for M with perm-k"
    return ", 1 for M with perm-k inside of another compressor" if shares_out(compressor) else ""


def joint_variance(setting: Setting, compressor: Compressor) -> tuple[float, float]:
    """Return A and B, which bound the variance of the average of the workers' messages.

    E|mean(C_i(a_i) - a_i)|^2 <= A mean|a_i|^2 - B|mean a_i|^2. A is omega / N with the N of
    ``effective_workers``, omega / M and B = 0 for independent messages. With PermK an entry is the
    mean of the c workers, of M, that send it, drawn without replacement, so A = B =
    (M / c - 1) / (M - 1), averaged over the blocks: 1 for d >= M.

    Raises:
        ValueError: no omega is known.

    References:
        Szlendak, Tyurin, Richtarik, 2021, arXiv:2110.03300.
    """
    workers, dim = setting.num_workers, setting.dim
    if isinstance(compressor, PermK):
        variance = _permuted_variance(workers, dim)
        return variance, variance
    return setting.omega(compressor) / effective_workers(compressor, workers, dim), 0.0


def _permuted_variance(num_workers: int, dim: int) -> float:
    if num_workers == 1:
        return 0.0
    num_blocks = min(dim, num_workers)
    senders = [block_size(num_workers, num_blocks, block) for block in range(num_blocks)]
    return sum(num_workers / c - 1 for c in senders) / num_blocks / (num_workers - 1)
