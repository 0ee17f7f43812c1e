"""The server's half of learned gradient compression."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Context
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.methods.base import Half, Progress
from mlmc_ray.methods.learned.autoencoder import Autoencoder, Trainer
from mlmc_ray.methods.learned.messages import (
    Layout,
    Phase,
    innovation_of,
    read_amount,
    read_positions,
    scale_down,
)
from mlmc_ray.methods.reports import add_average, payloads_of, set_to_average
from mlmc_ray.payloads import DensePayload, Message, Payload

if TYPE_CHECKING:
    from mlmc_ray.methods.learned.method import LearnedCompression


class LearnedServer(Half):
    """Remembers "round", the "phase" and when it "ends"; and the autoencoder with its trainer.

    What the leader said is kept between the exchanges of a round, and is no part of the state.
    """

    def __init__(self, method: "LearnedCompression", parameters: Tensor) -> None:
        super().__init__()
        self._method = method
        self._parameters = parameters
        self._estimate = torch.zeros_like(parameters)
        self._positions: Payload | None = None  # between the exchanges
        self._code: Payload | None = None
        self._autoencoder: Autoencoder | None = None
        self._trainer: Trainer | None = None
        self._set("round", 0)
        if method.dense_rounds:
            self._enter(Phase.DENSE, method.dense_rounds)
        else:
            self._enter(Phase.TRAINING, method.training_rounds)

    def news(self, *, context: Context) -> Message:
        """Say phase and leader; and the parameters, or what the leader said."""
        scalars = {"phase": float(self._phase), "leader": float(self._leader(context))}
        payloads: dict[str, Payload] = {}
        if self._positions is not None:
            payloads["positions"] = self._positions
            if self._code is not None:
                payloads["code"] = self._code
            return Message(payloads, scalars)
        payloads["parameters"] = DensePayload(self._parameters)
        if self._phase is Phase.COMPRESSED and self._get("announce"):
            payloads["weights"] = DensePayload(self._networks(context)[0].weights)
        return Message(payloads, scalars)

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        """Take the leader's positions, or what all said about them."""
        if self._phase is Phase.DENSE:
            set_to_average(self._estimate, reports, "gradient")
            return self._end_round(trust=True)
        layout = Layout(self._method, context, len(self._parameters))
        if self._positions is None:
            return self._take_positions(reports, layout, context)
        positions = read_positions(Message({"positions": self._positions}), layout, "the leader")
        if self._method.edge_layers:  # refuse them before the autoencoder changes
            payloads_of(reports, "edges", len(self._parameters))
        if self._phase is Phase.COMPRESSED:
            average, trust = self._decode(reports, layout, context)
        else:
            average, trust = self._learn(reports, layout, context), True
        self._estimate.zero_()
        self._estimate[positions] = average.to(self._estimate.dtype)
        if self._method.edge_layers:
            add_average(self._estimate, reports, "edges")
        self._positions = self._code = None
        return self._end_round(trust)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory, with the autoencoder and its trainer."""
        state = super().state_dict()
        trainer = self._trainer.state_dict() if self._trainer else {}
        return state | {f"trainer.{name}": tensor for name, tensor in trainer.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._autoencoder = self._trainer = None  # made from the memory when they are needed

    def _take_positions(
        self, reports: Mapping[int, Message], layout: Layout, context: Context
    ) -> Progress:
        leader = self._leader(context)
        report = reports[leader]
        read_positions(report, layout, f"report of worker {leader}")
        if self._phase is Phase.COMPRESSED:
            self._code = self._checked_code(leader, report, layout.count, context)
        self._positions = report.payloads["positions"]
        return Progress.MORE

    def _checked_code(self, leader: int, report: Message, length: int, context: Context) -> Payload:
        """Return the leader's code for vectors of a length, once it has been decoded.

        Raises:
            ValueError: it is of another length, or there is no decoding it.
        """
        autoencoder = self._networks(context)[0]
        payload = payloads_of({leader: report}, "code", autoencoder.code_length)[leader]
        code = payload.to_dense()
        largest = float(code.abs().max())
        if largest > torch.finfo(torch.float16).max:
            raise ValueError(
                f"report of worker {leader}: code has an entry of magnitude {largest:.6g}, and the "
                "numbers of a code have 16 bits; server and workers must run the same method"
            )
        with torch.no_grad():
            decoded = autoencoder.decode(code.to(torch.float32), torch.zeros(1, length))
        if not all_finite(decoded.flatten()):
            raise ValueError(f"report of worker {leader}: code is decoded to NaN or infinity")
        return payload

    def _learn(self, reports: Mapping[int, Message], layout: Layout, context: Context) -> Tensor:
        """Train on the values of a round and return their average."""
        payloads = payloads_of(reports, "values", layout.count)
        values = torch.stack([payload.to_dense() for payload in payloads.values()])
        scaled = torch.stack([scale_down(row)[0] for row in values])
        innovations = torch.stack([innovation_of(row, layout).to_dense() for row in scaled])
        self._networks(context)[1].step(scaled, innovations, self._leader(context))
        return values.mean(dim=0)

    def _decode(
        self, reports: Mapping[int, Message], layout: Layout, context: Context
    ) -> tuple[Tensor, bool]:
        """Return the average of what the workers' messages say, and whether it is worth it."""
        payloads = payloads_of(reports, "innovation", layout.count)
        scales, lost, alternative = (
            [read_amount(reports[worker_id], name, worker_id) for worker_id in payloads]
            for name in ("scale", "lost", "alternative")
        )
        innovations = torch.stack([payload.to_dense() for payload in payloads.values()])
        assert self._code is not None
        code = self._code.to_dense().to(torch.float32)
        with torch.no_grad():
            decoded = self._networks(context)[0].decode(code, innovations)
        average = (torch.tensor(scales)[:, None] * decoded).mean(dim=0)
        return average, math.fsum(lost) <= math.fsum(alternative)

    def _end_round(self, trust: bool) -> Tensor:
        self._set("round", self._get("round") + 1)
        self._set("announce", 0)
        if self._get("round") == self._get("ends"):
            if self._phase is Phase.DENSE:
                self._enter(Phase.TRAINING, self._method.training_rounds)
            else:
                self._enter(Phase.COMPRESSED)
        elif self._method.fall_back and not trust:
            self._enter(Phase.TRAINING, self._method.training_rounds)
        return self._estimate

    def _enter(self, phase: Phase, rounds: int | None = None) -> None:
        """Begin a phase of some rounds; None: until further notice."""
        self._set("phase", phase)
        self._set("ends", -1 if rounds is None else self._get("round") + rounds)
        self._set("announce", int(phase is Phase.COMPRESSED))

    @property
    def _phase(self) -> Phase:
        return Phase(self._get("phase"))

    def _leader(self, context: Context) -> int:
        return self._get("round") % context.num_workers

    def _networks(self, context: Context) -> tuple[Autoencoder, Trainer]:
        """Return the autoencoder and its trainer, made on first use."""
        if self._autoencoder is None or self._trainer is None:
            method = self._method
            layout = Layout(method, context, len(self._parameters))
            self._autoencoder = Autoencoder(layout.count, context.shared_seed)
            self._trainer = Trainer(self._autoencoder, method.learning_rate, method.similarity)
            names = [name for name in self.memory if name.startswith("trainer.")]
            saved = {name.removeprefix("trainer."): self.memory.pop(name) for name in names}
            if saved:
                self._trainer.load_state_dict(saved)
        return self._autoencoder, self._trainer

    def _get(self, name: str) -> int:
        return int(self.memory[name])

    def _set(self, name: str, value: int) -> None:
        self.memory[name] = torch.tensor(value)
