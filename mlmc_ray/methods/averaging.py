"""The server half of methods without memory on the server."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Context
from mlmc_ray.methods.base import Half
from mlmc_ray.methods.reports import set_to_average
from mlmc_ray.payloads import DensePayload, Message


class AverageServer(Half):
    """Sends the parameters to everyone; the estimate is the average of what arrives.

    Args:
        parameters: the server's own, shape (d,).
        name: of the payload of a report.
    """

    def __init__(self, parameters: Tensor, name: str) -> None:
        super().__init__()
        self._parameters = parameters
        self._name = name
        self._estimate = torch.zeros_like(parameters)

    def news(self, *, context: Context) -> Message:
        """Return the parameters."""
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        """Return the average over the reports."""
        return self.average(reports)

    def average(self, reports: Mapping[int, Message], among: int | None = None) -> Tensor:
        """Return the sum over the reports divided by ``among``, by default by their number.

        Raises:
            ValueError: a report is not one of this method.
        """
        set_to_average(self._estimate, reports, self._name, among=among)
        return self._estimate
