"""A run that keeps the news, to see what crosses the network in both directions."""

from collections.abc import Mapping

import torch

from mlmc_ray.compressors import Context
from mlmc_ray.methods import Method
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Quadratic
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of


class Recording(Run):
    """A run from the vector of ones whose ``news`` are those of the last exchange, by worker."""

    def __init__(self, method: Method, problem: Quadratic, step_size: float = 0.02) -> None:
        self.oracles: list[QuadraticOracle] = oracles_of(problem)
        start = torch.ones(problem.dim, dtype=torch.float64)
        super().__init__(method, self.oracles, start, step_size)
        self.news: Mapping[int, Message] = {}
        make = self.server.news

        def recorded(*, context: Context) -> News:
            news = make(context=context)
            everyone = range(len(self.workers))
            self.news = dict.fromkeys(everyone, news) if isinstance(news, Message) else news
            return news

        self.server.news = recorded  # type: ignore[method-assign]


def entries(message: Message) -> dict[str, int]:
    """Return how many entries of each payload are not zero."""
    found = {}
    for name, payload in message.payloads.items():
        dense = torch.zeros(payload.dim, dtype=torch.float64)
        payload.add_to(dense)
        found[name] = int(dense.count_nonzero())
    return found
