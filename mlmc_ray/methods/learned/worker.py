"""The worker's half of learned gradient compression."""

from typing import TYPE_CHECKING

import torch

from mlmc_ray.compressors.base import Context, check_finite
from mlmc_ray.kernels.select import largest_entries
from mlmc_ray.methods.base import Half, Oracle
from mlmc_ray.methods.checks import whole
from mlmc_ray.methods.learned.autoencoder import Autoencoder, num_weights
from mlmc_ray.methods.learned.messages import (
    Layout,
    Phase,
    innovation_of,
    positions_payload,
    read_positions,
    scale_down,
)
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.payloads import DensePayload, Message, Payload

if TYPE_CHECKING:
    from mlmc_ray.methods.learned.method import LearnedCompression


class LearnedWorker(Half):
    """Remembers "error" e and the autoencoder's "weights".

    Between the exchanges "error" is the gradient plus the error.
    """

    def __init__(self, method: "LearnedCompression") -> None:
        super().__init__()
        self._method = method

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Say the gradient, or the positions as the leader, or the values at the positions."""
        phase = Phase(whole(news.scalars, "phase", min(Phase), max(Phase)))
        if "parameters" not in news.payloads:
            return self._answer(news, phase, context)
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        check_finite(gradient)
        if phase is Phase.DENSE:
            return Message({"gradient": DensePayload(gradient)})
        if "weights" in news.payloads:
            self.memory["weights"] = payload_of(news, "weights", num_weights()).to_dense().clone()
        vector = self.memory.setdefault("error", torch.zeros_like(gradient)).add_(gradient)
        if whole(news.scalars, "leader", 0, context.num_workers - 1) != context.worker_id:
            return Message({})
        layout = Layout(self._method, context, len(vector))
        positions = layout.positions(vector)
        payloads = {"positions": positions_payload(len(vector), positions)}
        if phase is Phase.COMPRESSED:
            scaled, _ = scale_down(vector[positions])
            with torch.no_grad():
                code = self._autoencoder(layout).encode(scaled[None])[0]
            payloads["code"] = DensePayload(code.to(torch.float16))
        return Message(payloads)

    def _answer(self, news: Message, phase: Phase, context: Context) -> Message:
        """Say the values at the leader's positions, and keep what was not said."""
        vector = self.remembered("error")
        layout = Layout(self._method, context, len(vector))
        positions = read_positions(news, layout, "the server's news")
        values = vector[positions]
        payloads: dict[str, Payload] = {}
        scalars = {}
        if edges := layout.edges(vector):
            payloads["edges"] = edges
            edges.add_to(vector, weight=-1.0)
        if phase is Phase.TRAINING:
            vector[positions] = 0
            payloads["values"] = DensePayload(values)
            return Message(payloads)
        scaled, scale = scale_down(values)
        innovation = innovation_of(scaled, layout)
        autoencoder = self._autoencoder(layout)
        code = payload_of(news, "code", autoencoder.code_length).to_dense().to(torch.float32)
        with torch.no_grad():
            decoded = autoencoder.decode(code, innovation.to_dense()[None])[0]
        lost = values - scale * decoded.to(values.dtype)
        vector[positions] = lost
        largest = values[largest_entries(values, layout.alternative)]
        scalars = {
            "scale": scale,
            "lost": float(lost.square().sum()),
            # Rounding may leave less than nothing.
            "alternative": float((values.square().sum() - largest.square().sum()).clamp(min=0)),
        }
        return Message({**payloads, "innovation": innovation}, scalars)

    def _autoencoder(self, layout: Layout) -> Autoencoder:
        autoencoder = Autoencoder(layout.count, 0)
        autoencoder.weights.copy_(self.remembered("weights"))
        return autoencoder
