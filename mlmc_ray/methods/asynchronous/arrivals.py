"""Halves of the asynchronous methods: what they share.

The server counts its steps; this count is the version of the parameters. A worker gets parameters
with their version, reports a gradient with that version, and starts again at once. When the report
arrives the server may be further; the versions in between are the report's age,

    age = version of the server - version at which the gradient was computed.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.compressors.rounding import draw_seed
from mlmc_ray.methods.base import Half, Oracle, Progress
from mlmc_ray.methods.checks import whole
from mlmc_ray.methods.reports import payload_of, payloads_of
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message, Payload


class ArrivalWorker(Half):
    """Answers with a compressed gradient and the version at which it was computed.

    Every report has draws of its own, independent of all others: what a compressor draws alike on
    all workers elsewhere (PermK, or coordinated levels) it draws for each report here.
    """

    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Compute one gradient and echo the version."""
        version = whole(news.scalars, "version", 0)
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        # A round has many exchanges and one seed, so a second report would repeat the draws.
        own = replace(context, shared_seed=draw_seed(context.generator))
        payload = observed(bound(self._compressor, own)).compress(
            gradient, generator=context.generator
        )
        return Message({"gradient": payload}, {"version": float(version)})


class ArrivalServer(Half, ABC):
    """Starts workers, and tells the age of what they report.

    Remembers the "version" of the parameters; of every worker, whether it is "idle", that is not
    at work, and how many reports it has "sent".
    """

    def __init__(self, parameters: Tensor) -> None:
        super().__init__()
        self._parameters = parameters
        self._estimate = torch.zeros_like(parameters)
        self.memory = {"version": torch.zeros((), dtype=torch.int64)}

    def news(self, *, context: Context) -> dict[int, Message]:
        """Return the parameters for those that are to start now."""
        if "idle" not in self.memory:
            self.memory["idle"] = torch.ones(context.num_workers, dtype=torch.bool)
            self.memory["sent"] = torch.zeros(context.num_workers, dtype=torch.int64)
        starting = self.memory["idle"] & self._may_start(self.memory["sent"])
        self.memory["idle"] &= ~starting
        news = Message(
            {"parameters": DensePayload(self._parameters)},
            {"version": float(self.memory["version"])},
        )
        return dict.fromkeys(torch.nonzero(starting).flatten().tolist(), news)

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        """Take what has arrived, usually one report; several make one step."""
        payloads = payloads_of(reports, "gradient", len(self._parameters))
        ages = {worker_id: self._age(worker_id, reports[worker_id]) for worker_id in payloads}
        for worker_id in payloads:
            self.memory["idle"][worker_id] = True
            self.memory["sent"][worker_id] += 1
        result = self._take(payloads, ages, context.num_workers)
        if isinstance(result, Tensor):
            self.memory["version"] += 1
        return result

    def start_again(self, workers: Collection[int]) -> None:
        """Let workers start again whose reports were lost."""
        self.memory["idle"][list(workers)] = True

    def _may_start(self, sent: Tensor) -> Tensor:
        """Return, by worker, whether it may start once it is idle."""
        return torch.ones_like(sent, dtype=torch.bool)

    @abstractmethod
    def _take(
        self, payloads: Mapping[int, Payload], ages: Mapping[int, int], num_workers: int
    ) -> Tensor | Progress:
        """Make an estimate of payloads of some ages, or go on without."""

    def _age(self, worker_id: int, report: Message) -> int:
        version, current = report.scalars.get("version"), int(self.memory["version"])
        if version is None or version != int(version) or not 0 <= version <= current:
            raise ValueError(
                f"report of worker {worker_id}: version is {version!r}, expected a whole number "
                f"from 0 to {current}; server and workers must run the same method"
            )
        return current - int(version)
