"""SVRG: the exact gradient at a snapshot, plus compressed differences to it on minibatches.

References:
    Johnson and Zhang, 2013 (SVRG); Kovalev, Horvath and Richtarik, 2019, arXiv:1901.08689 (the
    random refresh); Horvath et al., 2019, arXiv:1904.05115 (with compression).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.reports import add_average, payload_of
from mlmc_ray.methods.shared_draws import shared_coin
from mlmc_ray.methods.shifts.differences import difference_step
from mlmc_ray.methods.theory import ON_BATCHES, Setting, StepSize, averaging_in_words
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class SVRG(Method):
    """SVRG in two levels; for unbiased compressors, MLMC included.

    In the first round, and whenever the snapshot w is refreshed, w <- x and

        send grad f_i(x), of all examples;  g = G <- average of what was sent

    and in all other rounds, with the same minibatch j at both points,

        send c_i = C(grad f_ij(x) - grad f_ij(w));  g = G + average of the c_i

    so G = grad f(w) is a base level that the server remembers, and the c_i correct it: their
    variance vanishes as x and w approach the optimum. A refresh takes the place of a round, instead
    of preceding one; the estimate is exact then.

    Args:
        compressor: unbiased; workers draw independently, or share out the entries with PermK.
        refresh: a whole number: every so many rounds; or a fraction: with this probability in
            every round, by a coin that everyone tosses alike.

    References:
        Johnson and Zhang, 2013; Kovalev et al., 2019, arXiv:1901.08689; Horvath et al., 2019,
        arXiv:1904.05115.
    """

    compressor: Compressor
    refresh: int | float = 0.05

    theory_needs: ClassVar[str] = "a refresh by a coin"

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C, and d instead where the snapshot is refreshed",
        downlink="d",
        reports=("gradient", "difference"),
        first="d up",
        worker_memory="d",
        server_memory="d",
        guarantee="linear to the optimum for convex losses and a strongly convex f, also with "
        "minibatches",
        reference="Johnson and Zhang, 2013; Kovalev et al., 2019, arXiv:1901.08689",
    )

    def __post_init__(self) -> None:
        require_unbiased("svrg", self.compressor)
        whole = isinstance(self.refresh, int) and not isinstance(self.refresh, bool)
        if not (self.refresh >= 1 if whole else 0 < self.refresh < 1):
            raise ValueError(
                f"refresh is {self.refresh!r}: give a whole number of rounds, at least 1, or a "
                "probability between 0 and 1, such as 0.05"
            )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + 6 omega L_max / M), for minibatches 1 / (L + 6 (1 + omega) L_examples / M^1/2).

        M^1/2 times the quadratic mean over workers bounds the largest L of an example.

        Raises:
            ValueError: the refresh is not random, no omega is known, no smoothness of examples, or
                a loss is not convex.
        """
        setting.require_convex("svrg")
        if isinstance(self.refresh, int):
            raise ValueError(
                f"refresh is {self.refresh!r}: a step size is known for a refresh by a coin; give "
                f"a probability, such as {1 / (1 + self.refresh):.3g}, or a step size"
            )
        omega = setting.joint_omega(self.compressor)
        constants = setting.constants
        if setting.batch_size is None:
            formula, spread = "1 / (L + 6 omega L_max / M)", omega * constants.largest_smoothness
        elif constants.sample_smoothness is None:
            raise ValueError("the smoothness of single examples is not known: give a step size")
        else:
            formula = "1 / (L + 6 (1 + omega) L_examples / M^1/2)"
            spread = (1 + omega) * math.sqrt(setting.num_workers) * constants.sample_smoothness
        formula += averaging_in_words(self.compressor)
        needs = f"convex losses, {ON_BATCHES}"
        return difference_step(setting, spread, formula, "refresh / 2", needs)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor, self.refresh)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(parameters, self.refresh)


class _Refreshing(Half):
    """Remembers the "age" of the snapshot, in rounds, from the first round on."""

    def __init__(self, refresh: int | float) -> None:
        super().__init__()
        self._refresh = refresh

    def is_due(self, context: Context) -> bool:
        """Say whether the snapshot is refreshed in this round, alike on both sides."""
        age = self.memory.get("age")
        if age is None:
            return True
        if isinstance(self._refresh, int):
            return int(age) + 1 >= self._refresh
        return shared_coin(context, "refresh", self._refresh)

    def count(self, due: bool) -> None:
        """Count the round that is done."""
        age = 0 if due else int(self.memory["age"]) + 1
        self.memory["age"] = torch.tensor(age)


class _Worker(_Refreshing):
    """Remembers the "snapshot" w besides."""

    def __init__(self, compressor: Compressor, refresh: int | float) -> None:
        super().__init__(refresh)
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        at = payload_of(news, "parameters").to_dense()
        due = self.is_due(context)
        report = self._gradient(at, oracle) if due else self._difference(at, oracle, context)
        self.count(due)
        return report

    def _gradient(self, at: Tensor, oracle: Oracle) -> Message:
        gradient = oracle.gradient(at, oracle.full())
        self.memory["snapshot"] = at.clone()
        return Message({"gradient": DensePayload(gradient)})

    def _difference(self, at: Tensor, oracle: Oracle, context: Context) -> Message:
        batch = oracle.sample()
        difference = oracle.gradient(at, batch).clone()
        difference.sub_(oracle.gradient(self.memory["snapshot"], batch))
        compressor = observed(bound(self._compressor, context))
        return Message({"difference": compressor.compress(difference, generator=context.generator)})


class _Server(_Refreshing):
    """Remembers the "gradient" G at the snapshot besides."""

    def __init__(self, parameters: Tensor, refresh: int | float) -> None:
        super().__init__(refresh)
        self._parameters = parameters
        self._estimate = torch.zeros_like(parameters)
        self.memory["gradient"] = torch.zeros_like(parameters)

    def news(self, *, context: Context) -> Message:
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        due = self.is_due(context)
        if due:
            self._estimate.zero_()
        else:
            self._estimate.copy_(self.memory["gradient"])
        add_average(self._estimate, reports, "gradient" if due else "difference")
        if due:
            self.memory["gradient"].copy_(self._estimate)
        self.count(due)
        return self._estimate
